"""Softmax over the keys that may be attended to."""

import torch
from torch import Tensor


def masked_softmax(scores: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    r"""Softmax over the entries that a mask allows.

    .. math:: w_j = \frac{m_j e^{x_j}}{\sum_i m_i e^{x_i}}, \qquad w = 0 \text{ where no } m_i \text{ is set}

    A row with nothing to attend gives zeros, and passes a gradient of zero, in every floating dtype: no finite
    stand-in for minus infinity is added, so nothing overflows in half precision, and what hides behind the mask (inf
    and NaN too) reaches neither values nor gradients.

    Args:
        scores: (..., S) floating point.
        mask: bool, broadcastable to ``scores``, True = attend; None for all.
        dim: the dimension that is normalised.

    Returns:
        Weights of the shape and dtype of ``scores``.

    Example:
        >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[True, True], [False, False]]))
        tensor([[0.5000, 0.5000],
                [0.0000, 0.0000]])
    """
    if mask is None:
        return scores.softmax(dim)
    # softmax of a row of -inf is NaN, in value and gradient: a row with nothing to attend is filled with zeros instead.
    empty = ~mask.any(dim, keepdim=True)
    fill = torch.zeros_like(empty, dtype=scores.dtype).masked_fill(~empty, float("-inf"))
    return torch.where(mask, scores, fill).softmax(dim).masked_fill(empty, 0.0)


def masked_softmax_reference(scores: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    """`masked_softmax` as its equation reads, for scores of moderate size."""
    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    numerator = torch.where(mask, scores, 0.0).exp() * mask
    denominator = numerator.sum(dim, keepdim=True)
    return numerator / torch.where(denominator > 0, denominator, 1.0)
