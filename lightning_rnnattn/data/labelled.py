"""Data modules whose examples have labels, and tokens, that are learnt from what is trained on."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from lightning_rnnattn.data.examples import ExampleDataModule
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers import Tokenizer, TokenizerSpec


class LabelledDataModule(ExampleDataModule):
    """The base of data modules with labels for text. A subclass says what the training data have, and the rest.

    What is learnt is learnt when it is first asked for. Setting it (a checkpoint's, when a model is tested on other
    data) discards what was encoded by another.

    Args:
        tokenizer: how to make the vocabulary.
        options: see `ExampleDataModule`.
    """

    def __init__(self, *, tokenizer: TokenizerSpec, **options: Any) -> None:
        super().__init__(**options)
        self.tokenizer_spec = tokenizer
        self._tokenizer: Tokenizer | None = None
        self._labels: tuple[str, ...] | None = None

    @abstractmethod
    def learn_text(self) -> Iterable[str]:
        """What the vocabulary is learnt from."""

    @abstractmethod
    def learn_labels(self) -> tuple[str, ...]:
        """The labels of the training data, in their order.

        Raises:
            UserError: if there are too few.
        """

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary, of the training data."""
        if self._tokenizer is None:
            self.require_training("tokenizer")
            self._tokenizer = self.tokenizer_spec.train(self.learn_text())
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._examples.clear()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the training data, in their order."""
        if self._labels is None:
            self.require_training("labels")
            self._labels = self.learn_labels()
        return self._labels

    @labels.setter
    def labels(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._examples.clear()

    @property
    def input_size(self) -> int:
        """The size of the vocabulary."""
        return self.tokenizer.vocab_size

    @property
    def num_labels(self) -> int:
        """The number of labels."""
        return len(self.labels)

    def require_training(self, what: str) -> None:
        """Says that there is nothing to learn something from, where that is so.

        Args:
            what: the attribute that would be learnt.

        Raises:
            UserError: naming the ways out.
        """
        if not self.has("train"):
            raise UserError(
                f"there is no data to learn the {what.replace('_', ' ')} from: give {self.ways['train']}, or a"
                f" checkpoint's (in Python: data.{what} = model.{what})"
            )
