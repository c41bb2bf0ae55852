"""What logits lack to being log-probabilities.

Letters: V numbers of a row.
"""

import torch
from torch import Tensor

_CACHED = 1 << 16


def log_normalizer(logits: Tensor) -> Tensor:
    r"""``logits.logsumexp(-1)``, faster on a CPU where they do not fit into its cache.

    .. math:: \log \sum_v e^{x_v} = m + \log \sum_v e^{x_v - m}, \qquad m = \max_v x_v

    A log-probability is :math:`x_v` less this. Where few of them are wanted, that saves writing all V, and rows taken a
    few at a time keep what lies between in the cache.

    Args:
        logits: (..., V) floating point; each row has a number above minus infinity.

    Returns:
        (...).
    """
    if logits.device.type != "cpu" or logits.numel() <= _CACHED:
        return logits.logsumexp(-1)
    rows = logits.flatten(0, -2)
    most = rows.amax(-1, keepdim=True)
    size = max(1, _CACHED // rows.shape[1])
    sums = [(x - m).exp_().sum(-1) for x, m in zip(rows.split(size), most.split(size), strict=True)]
    return (most.squeeze(-1) + torch.cat(sums).log()).view(logits.shape[:-1])
