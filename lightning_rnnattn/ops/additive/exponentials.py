"""e^{2k}, which turns the tanh of a sum into one multiply-add and one reciprocal.

    tanh(q + k) = 1 - 2r,    r = 1 / (1 + e^{2q} e^{2k}),    d tanh / dq = 4 r (1 - r)

A product is only as good as its factors: e^{2q} leaves float32 at |q| = 44. Arguments are clamped just inside, to a
limit. Where q or k lies within (limit - saturation), that loses nothing: if the other one was clamped, |q + k| >
saturation, where tanh is ±1 to the last bit. Only where both are larger, as in q = 60, k = -59, would a pair be lost;
the operations then compute r as the logistic function of -2 (q + k), which is slower and right for every finite
input.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.ops.native import upcast

_LIMIT = {torch.float32: 43.0, torch.float64: 350.0}
_SATURATION = {torch.float32: 10.0, torch.float64: 20.0}


class AdditiveKey(NamedTuple):
    """Keys with what every comparison needs of them, made once by `additive_key`.

    Each row stands for itself: a memory may index dimension 0, slice and concatenate dimension -2, of all three alike.

    Attributes:
        key: (..., S, D), the projected keys; gradients flow through it.
        exp: (..., S, D), e^{2 key} within its limits, float32 (float64 for float64 keys).
        bound: (..., S, 1), the largest magnitude of each row.
    """

    key: Tensor
    exp: Tensor
    bound: Tensor


def additive_key(key: Tensor) -> AdditiveKey:
    """Prepares keys for many calls of `additive_score` or `additive_attention`, as in decoding step by step.

    Args:
        key: (..., S, D) projected keys, floating point.

    Example:
        >>> prepared = additive_key(torch.zeros(2, 3, 4))
        >>> prepared.exp.shape, prepared.bound.shape
        (torch.Size([2, 3, 4]), torch.Size([2, 3, 1]))
    """
    wide = upcast(key.detach())
    return AdditiveKey(key, exponential(wide), wide.abs().amax(-1, keepdim=True))


def raw_key(key: Tensor | AdditiveKey) -> Tensor:
    """The projected keys, prepared or not."""
    return key.key if isinstance(key, AdditiveKey) else key


def exponential(x: Tensor) -> Tensor:
    """e^{2x}, with x clamped to where this and its inverse are normal numbers."""
    limit = _LIMIT[x.dtype]
    return x.clamp(-limit, limit).mul_(2).exp_()


def products_hold(query: Tensor, key_bound: Tensor) -> Tensor:
    """Whether e^{2q} e^{2k} gives every tanh(q + k), as a scalar tensor; False where anything is NaN."""
    if not query.numel() or not key_bound.numel():
        return torch.ones((), dtype=torch.bool, device=query.device)
    return torch.minimum(query.abs().max(), key_bound.max()) <= _safe(query.dtype)


def keys_hold(key_bound: Tensor) -> bool:
    """Whether e^{2q} e^{2k} gives every tanh(q + k), whatever q is; key_bound is not empty."""
    return float(key_bound.max()) <= _safe(key_bound.dtype)


def _safe(dtype: torch.dtype) -> float:
    """The magnitude up to which one factor may be clamped, whatever the other is."""
    return _LIMIT[dtype] - _SATURATION[dtype]
