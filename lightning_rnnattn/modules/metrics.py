"""Metrics of summed losses; torchmetrics adds them up over batches and ranks."""

import math

import torch
from torch import Tensor
from torchmetrics import MeanMetric


class LossMetric(MeanMetric):
    """Mean of losses that come as sums: total over count, in nats per counted item.

    Example:
        >>> metric = LossMetric()
        >>> metric.update(torch.tensor(6.0), torch.tensor(3))
        >>> metric.update(torch.tensor(2.0), torch.tensor(1))
        >>> metric.compute()
        tensor(2.)
    """

    def update(self, total: Tensor, count: Tensor) -> None:  # type: ignore[override]
        """Adds a batch: the sum of its losses, and how many items it has (zero allowed)."""
        super().update(total / count.clamp(min=1), count)


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
