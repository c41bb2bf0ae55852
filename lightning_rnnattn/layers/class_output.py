"""Output layers that give a whole sequence a label, or several.

Letters: B batch, D features, L labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn.errors import UserError, require_positive, require_probability


class ClassOutput(nn.Module, ABC):
    """The probabilities of labels, given a vector.

    Args:
        input_size: D, features of the vector.
        num_labels: L.
        label_smoothing: share of the labels' probability that is spread evenly, in training.

    Attributes:
        task: what torchmetrics calls the kind of labels.

    Raises:
        UserError: if an argument is out of range.
    """

    task: ClassVar[Literal["multiclass", "multilabel"]]

    def __init__(self, input_size: int, num_labels: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        require_positive(self, input_size=input_size, num_labels=num_labels)
        require_probability(label_smoothing=label_smoothing)
        self.num_labels = num_labels
        self.label_smoothing = label_smoothing
        self.proj = nn.Linear(input_size, num_labels)

    @abstractmethod
    def losses(self, x: Tensor, labels: Tensor) -> Tensor:
        """Minus the log-probability of the right labels of each vector (B, D), in nats: (B,), float32 at least."""

    @abstractmethod
    def probabilities(self, x: Tensor) -> Tensor:
        """The probability of each label for vectors (B, D): (B, L), float32 at least."""

    @abstractmethod
    def decide(self, probabilities: Tensor) -> Tensor:
        """What the probabilities (B, L) say, as a batch has its labels."""

    @abstractmethod
    def names(self, decision: Tensor, labels: Sequence[str]) -> str | list[str]:
        """What was decided for one vector, by name."""

    def weights(self, labels: Tensor) -> Tensor:
        """How much each example weighs in training, given its labels: (B,)."""
        return self.proj.weight.new_ones(len(labels))

    @property
    def smoothing(self) -> float:
        """The share that is spread: none outside training."""
        return self.label_smoothing if self.training else 0.0

    def logits(self, x: Tensor) -> Tensor:
        """Scores (B, L) of vectors (B, D), float32 at least."""
        logits = self.proj(x)
        return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits

    def _per_label(self, name: str, values: Sequence[float] | None) -> Tensor | None:
        if values is None:
            return None
        if len(values) != self.num_labels or min(values) < 0:
            raise UserError(f"{name}: {self.num_labels} numbers, none below 0, are wanted, in the order of the labels")
        return torch.tensor(values, dtype=torch.get_default_dtype())


ClassOutputFactory = Callable[[int, int], ClassOutput]
"""Makes an output layer from (input_size, num_labels): a class, or a ``functools.partial`` of one."""


class SingleLabel(ClassOutput):
    r"""One label, of those that exclude each other.

    .. math:: p = \mathrm{softmax}(W x + b), \qquad \mathrm{loss} = -\log p_y

    Args:
        input_size: D, features of the vector.
        num_labels: L.
        label_smoothing: share :math:`\varepsilon` of the label's probability that is spread over all labels, in
            training.
        class_weights: how much an example of each label weighs in training, in the order of the labels; None for 1. The
            loss is the weighted mean.
    """

    task = "multiclass"
    class_weights: Tensor | None

    def __init__(
        self,
        input_size: int,
        num_labels: int,
        *,
        label_smoothing: float = 0.0,
        class_weights: list[float] | None = None,
    ) -> None:
        super().__init__(input_size, num_labels, label_smoothing=label_smoothing)
        self.register_buffer("class_weights", self._per_label("class_weights", class_weights), persistent=False)

    def losses(self, x: Tensor, labels: Tensor) -> Tensor:
        """See `ClassOutput.losses`; ``labels`` (B,) int64."""
        return F.cross_entropy(self.logits(x), labels, label_smoothing=self.smoothing, reduction="none")

    def probabilities(self, x: Tensor) -> Tensor:
        """See `ClassOutput.probabilities`; they add up to 1."""
        return F.softmax(self.logits(x), -1)

    def decide(self, probabilities: Tensor) -> Tensor:
        """The likeliest label, (B,) int64."""
        return probabilities.argmax(-1)

    def names(self, decision: Tensor, labels: Sequence[str]) -> str | list[str]:
        """The label."""
        return labels[int(decision)]

    def weights(self, labels: Tensor) -> Tensor:
        """See `ClassOutput.weights`."""
        return super().weights(labels) if self.class_weights is None else self.class_weights[labels]


class MultiLabel(ClassOutput):
    r"""Any number of labels, each there or not, independent of each other given the vector.

    .. math:: p = \sigma(W x + b), \qquad \mathrm{loss} = -\sum_l w_l\, y_l \log p_l + (1 - y_l) \log(1 - p_l)

    Args:
        input_size: D, features of the vector.
        num_labels: L.
        label_smoothing: share :math:`\varepsilon` by which y moves towards one half, in training.
        positive_weights: :math:`w_l`, how much each label weighs where it is there, in training; None for 1. With more
            than 1 a rare label is found more often.
    """

    task = "multilabel"
    positive_weights: Tensor | None

    def __init__(
        self,
        input_size: int,
        num_labels: int,
        *,
        label_smoothing: float = 0.0,
        positive_weights: list[float] | None = None,
    ) -> None:
        super().__init__(input_size, num_labels, label_smoothing=label_smoothing)
        self.register_buffer(
            "positive_weights", self._per_label("positive_weights", positive_weights), persistent=False
        )

    def losses(self, x: Tensor, labels: Tensor) -> Tensor:
        """See `ClassOutput.losses`; ``labels`` (B, L) bool."""
        logits = self.logits(x)
        targets = labels.to(logits.dtype) * (1 - self.smoothing) + self.smoothing / 2
        weights = self.positive_weights if self.training else None
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none").sum(-1)

    def probabilities(self, x: Tensor) -> Tensor:
        """See `ClassOutput.probabilities`; each is that of one label to be there."""
        return self.logits(x).sigmoid()

    def decide(self, probabilities: Tensor) -> Tensor:
        """The labels that are more probable than not, (B, L) bool."""
        return probabilities > 0.5

    def names(self, decision: Tensor, labels: Sequence[str]) -> str | list[str]:
        """The labels that are there."""
        return [label for label, there in zip(labels, decision.tolist(), strict=True) if there]
