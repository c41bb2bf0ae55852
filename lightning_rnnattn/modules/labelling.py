"""What the modules share that give labels: to whole sequences, or to their elements."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypedDict

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_rnnattn.errors import UserError, require_probability
from lightning_rnnattn.layers.inputs import InputFactory
from lightning_rnnattn.modules.base import Loss, SequenceModule
from lightning_rnnattn.modules.metrics import LossMetric
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
        self.losses = nn.ModuleDict({stage: LossMetric() for stage in ("val", "test")})

    @abstractmethod
    def evaluate(self, batch: Any, stage: str) -> Decisions:
        """Updates the loss and the metrics of a stage, "val" or "test", with a batch, by `log_loss` and `log_metrics`.

        Returns:
            What was decided, for callbacks such as `ConfusionMatrix`.
        """

    def validation_step(self, batch: Any, batch_idx: int) -> Decisions:
        """Updates the metrics of the validation set."""
        return self.evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> Decisions:
        """Updates the metrics of the test set."""
        return self.evaluate(batch, "test")

    def log_loss(self, loss: Loss, stage: str) -> None:
        """Adds a batch's loss to that of a stage."""
        self.losses[stage].update(*loss)  # type: ignore[operator]
        self.log(f"{stage}_loss", self.losses[stage], batch_size=1)  # type: ignore[arg-type]

    def log_metrics(self, metrics: nn.ModuleDict, stage: str, *arguments: Any, shown: str | None = None) -> None:
        """Updates the metrics of a stage, and shows them on the progress bar: all, or the one that is named."""
        for name, metric in metrics[stage].items():  # type: ignore[operator]
            metric.update(*arguments)
            self.log(f"{stage}_{name}", metric, prog_bar=shown in (None, name), batch_size=1)

    def on_fit_start(self) -> None:
        """Lets the input layer take its pretrained vectors."""
        super().on_fit_start()
        prepare_input(self.input, self.tokenizer)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, which are known once the data said them.

        Raises:
            UserError: if they are not known.
        """
        if self.labels is None:
            raise UserError("the names of the labels are not known: set model.labels, or use a data module with labels")
        return self.labels


def by_stage(build: Callable[[], dict[str, Metric]]) -> nn.ModuleDict:
    """Metrics for each stage that is measured, by name."""
    return nn.ModuleDict({stage: nn.ModuleDict(build()) for stage in ("val", "test")})
