"""What the modules share that give labels: to whole sequences, or to their elements."""

from abc import abstractmethod
from typing import Any, ClassVar, TypedDict

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError, require_probability
from lightning_rnnattn.layers.inputs import InputFactory
from lightning_rnnattn.modules.base import SequenceModule
from lightning_rnnattn.modules.word_vectors import prepare_input


class Decisions(TypedDict):
    """What a model decided, beside what is right.

    Attributes:
        predicted: labels.
        actual: the right labels, of the same shape; `lightning_rnnattn.ops.cross_entropy.IGNORE` where nothing counts.
    """

    predicted: Tensor
    actual: Tensor


class LabelModule(SequenceModule):
    """Base of the modules that give labels: it reads an input layer, and measures what was decided.

    A subclass implements `evaluate`.

    Args:
        input_size: size of the vocabulary, or features of an element.
        input: makes the layer that reads elements from ``input_size``.
        dropout: probability of dropping a feature before the recurrent network, and one before the output layer.
        optimizer: see `SequenceModule`.
        lr_scheduler: see `SequenceModule`.

    Raises:
        UserError: if ``dropout`` is no probability.
    """

    changeable: ClassVar[tuple[str, ...]] = (*SequenceModule.changeable, "dropout")
    vocabularies: ClassVar[tuple[str, ...]] = ("tokenizer", "labels")
    labels: tuple[str, ...] | None

    def __init__(
        self,
        input_size: int,
        input: InputFactory,
        dropout: float,
        optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        require_probability(dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.input = input(input_size)

    @abstractmethod
    def evaluate(self, batch: Any, stage: str) -> Decisions:
        """Updates and logs the loss and the metrics of a stage, by `log_loss` and `log_metrics`.

        Returns:
            What was decided, for callbacks such as `ConfusionMatrix`.
        """

    def on_fit_start(self) -> None:
        """Lets the input layer take its pretrained vectors."""
        super().on_fit_start()
        prepare_input(self.input, self.tokenizer)

    def num_ids(self) -> dict[str, int]:
        """See `CheckpointedModule.num_ids`."""
        embedding = getattr(self.input, "embedding", None)
        return {"tokenizer": embedding.num_embeddings} if isinstance(embedding, nn.Embedding) else {}

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, which are known once the data said them.

        Raises:
            UserError: if they are not known.
        """
        if self.labels is None:
            raise UserError("the names of the labels are not known: set model.labels, or use a data module with labels")
        return self.labels
