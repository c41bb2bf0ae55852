"""Metrics of labels of elements; torchmetrics adds them up over batches and ranks.

Letters: B batch, T time.
"""

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_rnnattn.ops.spans import SpanCounts


class TokenAccuracy(Metric):
    """Share of elements whose label is right.

    Example:
        >>> metric = TokenAccuracy()
        >>> metric.update(torch.tensor([[1, 2, 0]]), torch.tensor([[1, 1, 0]]), torch.tensor([[True, True, False]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    correct: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, actual: Tensor, mask: Tensor) -> None:
        """Adds a batch: labels (B, T) int64 as predicted and as they should be, and (B, T) bool, True = real."""
        self.correct += ((predicted == actual) & mask).sum()
        self.count += mask.sum()

    def compute(self) -> Tensor:
        """The share so far; not a number before the first element."""
        return self.correct / self.count


class SentenceAccuracy(TokenAccuracy):
    """Share of sequences all of whose labels are right; those without elements do not count."""

    def update(self, predicted: Tensor, actual: Tensor, mask: Tensor) -> None:
        """See `TokenAccuracy.update`."""
        counted = mask.any(-1)
        self.correct += (((predicted == actual) | ~mask).all(-1) & counted).sum()
        self.count += counted.sum()


class SpanF1(Metric):
    r"""F1 of spans, micro-averaged over types as conlleval does: :math:`2 \cdot correct / (predicted + actual)`.

    Example:
        >>> metric = SpanF1()
        >>> metric.update(SpanCounts(torch.tensor(1), torch.tensor(1), torch.tensor(2)))
        >>> metric.compute()
        tensor(0.6667)
    """

    correct: Tensor
    predicted: Tensor
    actual: Tensor
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in SpanCounts._fields:
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    def update(self, counts: SpanCounts) -> None:
        """Adds the spans of a batch, as `lightning_rnnattn.ops.count_spans` counts them."""
        self.correct += counts.correct
        self.predicted += counts.predicted
        self.actual += counts.actual

    def compute(self) -> Tensor:
        """F1 so far; not a number where there are no spans, neither predicted nor to be found."""
        return 2 * self.correct / (self.predicted + self.actual)


class SpanPrecision(SpanF1):
    """Share of the predicted spans that are right; zero where none of the spans to be found led to a prediction."""

    def compute(self) -> Tensor:
        """Precision so far; not a number where there are no spans, neither predicted nor to be found."""
        return _share(self.correct, self.predicted, self.actual)


class SpanRecall(SpanF1):
    """Share of the spans to be found that were predicted; zero where there were none and yet some were predicted."""

    def compute(self) -> Tensor:
        """Recall so far; not a number where there are no spans, neither predicted nor to be found."""
        return _share(self.correct, self.actual, self.predicted)


def _share(correct: Tensor, of: Tensor, others: Tensor) -> Tensor:
    """``correct / of``; conlleval's zero for 0 / 0, unless there is nothing on the other side either."""
    return correct / torch.where(others > 0, of.clamp(min=1), of)
