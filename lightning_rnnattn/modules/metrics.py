"""Metrics of summed losses; torchmetrics adds them up over batches and ranks."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics import Metric


class LossMetric(Metric):
    """Mean of losses that come as sums: total over count, in nats per counted item.

    A loss that is not a number makes the mean no number, too.

    Example:
        >>> metric = LossMetric()
        >>> metric.update(torch.tensor(6.0), torch.tensor(3))
        >>> metric.update(torch.tensor(2.0), torch.tensor(1))
        >>> metric.compute()
        tensor(2.)
    """

    total: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, total: Tensor, count: Tensor) -> None:
        """Adds a batch: the sum of its losses, and how many items it has (zero allowed)."""
        self.total += total.detach()
        self.count += count

    def compute(self) -> Tensor:
        """The mean so far; not a number before the first item."""
        return self.total / self.count


class Perplexity(LossMetric):
    r"""Exponential of the mean loss, :math:`e^{\text{nats per token}}`."""

    def compute(self) -> Tensor:
        """Perplexity so far."""
        return torch.exp(super().compute())


class BitsPerCharacter(LossMetric):
    r"""Mean loss in bits, :math:`\text{nats} / (\ln 2 \cdot \text{characters})`; count characters, not tokens."""

    def compute(self) -> Tensor:
        """Bits per character so far."""
        return super().compute() / math.log(2)


def by_stage(build: Callable[[], dict[str, Metric]]) -> nn.ModuleDict:
    """Metrics for each stage that is measured, by name."""
    return nn.ModuleDict({stage: nn.ModuleDict(build()) for stage in ("val", "test")})
