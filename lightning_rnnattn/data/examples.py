"""Data modules whose data are separate examples, given in batches of like lengths."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from lightning_rnnattn.data.base import SharedDataModule
from lightning_rnnattn.data.bucketing import LengthBatches
from lightning_rnnattn.errors import UserError, require_at_least_one, require_seed, require_share

Split = Literal["train", "val", "test", "predict"]


class Examples(Protocol):
    """The examples of a split, encoded.

    Attributes:
        lengths: (N,) the length of each; (N, K) where an example has several sequences.
    """

    lengths: npt.NDArray[np.int64]

    def collate(self, indices: Sequence[int], counts: bool) -> Any:
        """The batch of some examples.

        Args:
            indices: their numbers.
            counts: whether they count, or only keep this process in step with the others.
        """


class ExampleDataModule(SharedDataModule, ABC):
    """The base of data modules with separate examples. A subclass says where they come from and how they are encoded.

    Validation examples are a split of their own, or are drawn from those of training: which ones depends on the number
    of examples and ``split_seed`` only.

    Args:
        val_fraction: the share of the training examples to validate on, where validation has none of its own.
        split_seed: what they are drawn by.
        batch_size: the most examples in a batch of one process; null is no limit.
        max_tokens: the most elements in a batch of one process, padding included; null is no limit.
        eval_batch_size: ``batch_size`` in validation, test and prediction; null is the same.
        seed: what the order of the batches is drawn from, with the number of the epoch.

    Attributes:
        ways: for each split, the setting that gives it examples, for messages.

    Raises:
        UserError: if an argument is out of range.
    """

    ways: ClassVar[dict[Split, str]] = {
        "train": "data.train_files",
        "val": "data.val_files or data.val_fraction",
        "test": "data.test_files",
        "predict": "data.predict_files",
    }

    def __init__(
        self,
        *,
        val_fraction: float = 0.0,
        split_seed: int = 0,
        batch_size: int | None = 32,
        max_tokens: int | None = None,
        eval_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_at_least_one("data.", batch_size=batch_size, max_tokens=max_tokens, eval_batch_size=eval_batch_size)
        if batch_size is None and max_tokens is None:
            raise UserError("data.batch_size and data.max_tokens are both null: give at least one of them")
        require_share("data.", val_fraction=val_fraction)
        require_seed("data.", split_seed=split_seed, seed=seed)
        self.val_fraction, self.split_seed, self.seed = val_fraction, split_seed, seed
        self.batch_size, self.max_tokens = batch_size, max_tokens
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self._examples: dict[Split, Examples] = {}

    @abstractmethod
    def has(self, split: Split) -> bool:
        """Whether a split has data of its own.

        Raises:
            UserError: if files that were named do not exist.
        """

    @abstractmethod
    def encode(self, split: Split) -> Examples:
        """The examples of a split that :meth:`require` has let pass.

        Raises:
            UserError: naming file and line, where they cannot be read.
        """

    def examples(self, split: Split) -> Examples:
        """The examples of a split, read once and kept.

        Raises:
            UserError: if there are none, or they cannot be read.
        """
        if split not in self._examples:
            self.require(split)
            self._examples[split] = self.encode(split)
        return self._examples[split]

    def require(self, split: Split) -> None:
        """Says that there is no data for a split, where that is so.

        Raises:
            UserError: naming the settings that would give it some.
        """
        if not (self.has("train") if split == "val" and self.is_cut else self.has(split)):
            raise UserError(f"there is no data for {split}: give {self.ways[split]}")

    @property
    def known_length(self) -> int | None:
        """The median length of the training examples, where they have been read already."""
        examples = self._examples.get("train")
        return None if examples is None else int(np.median(examples.lengths))

    @property
    def is_cut(self) -> bool:
        """Whether validation examples are drawn from those of training."""
        return self.val_fraction > 0 and not self.has("val")

    def part(self, split: Split, count: int, source: str) -> npt.NDArray[np.int64]:
        """Which examples of a file are those of a split: their numbers, ascending.

        Args:
            split: the split.
            count: how many the file has.
            source: its name, for the message.

        Raises:
            UserError: if training or validation is left without any.
        """
        everything = np.arange(count)
        if not self.is_cut or split not in ("train", "val"):
            return everything
        is_val = np.zeros(count, dtype=bool)
        is_val[np.random.RandomState(self.split_seed).permutation(count)[: round(self.val_fraction * count)]] = True
        if not 0 < is_val.sum() < count:
            raise UserError(
                f"data.val_fraction is {self.val_fraction}: of the {count} example(s) in {source} it leaves none to"
                f" {'train' if is_val.any() else 'validate'} on"
            )
        return everything[is_val if split == "val" else ~is_val]

    def train_dataloader(self) -> LengthBatches:
        """The training examples, in another order each epoch; in order where a few batches are to be overfitted."""
        trainer = self.trainer
        batches = self._batches("train", self.batch_size, shuffle=not (trainer and trainer.overfit_batches))  # type: ignore[attr-defined]
        batches.follow(trainer)
        return batches

    def val_dataloader(self) -> LengthBatches | list[LengthBatches]:
        """The validation examples; nothing where there are none, and a fit does without."""
        needed = self.is_cut or self.has("val") or self.run == "validate"
        return self._batches("val", self.eval_batch_size) if needed else []

    def test_dataloader(self) -> LengthBatches:
        """The test examples."""
        return self._batches("test", self.eval_batch_size)

    def predict_dataloader(self) -> LengthBatches:
        """The examples to predict."""
        return self._batches("predict", self.eval_batch_size)

    def _batches(self, split: Split, batch_size: int | None, *, shuffle: bool = False) -> LengthBatches:
        examples = self.examples(split)
        return LengthBatches(
            examples.lengths,
            examples.collate,
            batch_size=batch_size,
            max_tokens=self.max_tokens,
            shuffle=shuffle,
            seed=self.seed,
            **self.place,
        )
