"""Additive scores on a CPU by compiled C++ (native.cpp), several times faster than ``torch.compile`` of the same."""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from lightning_rnnattn.ops import native
from lightning_rnnattn.ops.additive import blocked
from lightning_rnnattn.ops.additive.exponentials import AdditiveKey, exponential, products_hold

_SOURCE = Path(__file__).with_name("native.cpp")


def score(query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int) -> Tensor:
    """See `lightning_rnnattn.ops.additive.paths.Path`."""
    if not products_hold(query, key.bound):
        return blocked.score(query, key, v, first, last)
    out = query.new_empty(query.shape[0], query.shape[1], key.exp.shape[1])
    _call("additive_score", (exponential(query), key.exp, v, out), (*_sizes(query, key, v), first, last))
    return out


def score_backward(
    grad: Tensor, query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `lightning_rnnattn.ops.additive.paths.Path`."""
    if not products_hold(query, key.bound):
        return blocked.score_backward(grad, query, key, v, first, last)
    grads = (torch.empty_like(query), torch.empty_like(key.exp), query.new_empty(query.shape[0], query.shape[2]))
    arrays = (grad, exponential(query), key.exp, v, *grads)
    _call("additive_score_backward", arrays, (*_sizes(query, key, v), first, last))
    grads[2].add_(grad.sum((1, 2)).unsqueeze(-1))  # v meets tanh = 1 - 2r; the loops sum the second term
    return grads


def library() -> ctypes.CDLL | None:
    """The compiled loops; see `lightning_rnnattn.ops.native.load`."""
    return native.load(_SOURCE, "additive attention")


def _sizes(query: Tensor, key: AdditiveKey, v: Tensor) -> tuple[int, int, int, int, int]:
    return query.shape[0], v.shape[0], query.shape[1], key.exp.shape[1], query.shape[2]


def _call(name: str, arrays: tuple[Tensor, ...], sizes: tuple[int, ...]) -> None:
    assert all(x.is_contiguous() and x.dtype is torch.float32 for x in arrays)
    native.call(library(), name, arrays, sizes)
