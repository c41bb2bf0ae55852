"""A step of additive attention on a CPU by compiled C++ (native.cpp).

Letters: B batch, N batch × heads, K queries, S keys, D features, V features of a value.
"""

import ctypes
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.ops import native

_SOURCE = Path(__file__).with_name("native.cpp")


class Arrays(NamedTuple):
    """What does not change from step to step: contiguous, and float32 but for the mask.

    Attributes:
        key: (N, S, D).
        exp: (N, S, D), e^{2 key} within its limits.
        v: (H, D), where head is n mod H.
        value: (N, S, V).
        mask: (B, S) bool, True = attend; None for all.
    """

    key: Tensor
    exp: Tensor
    v: Tensor
    value: Tensor
    mask: Tensor | None


def attend(query: Tensor, arrays: Arrays, bounded: bool) -> tuple[Tensor, Tensor]:
    """Contexts (N, K, V) and weights (N, K, S) of queries (N, K, D)."""
    assert query.dtype is torch.float32
    assert query.shape[::2] == arrays.key.shape[::2]
    context = query.new_empty(*query.shape[:2], arrays.value.shape[-1])
    weights = query.new_empty(*query.shape[:2], arrays.value.shape[1])
    native.call(library(), "additive_step", (query, *arrays, weights, context), _sizes(query, arrays, bounded))
    return context, weights


def attend_backward(
    grad: Tensor, weights: Tensor, query: Tensor, arrays: Arrays, bounded: bool
) -> tuple[Tensor, Tensor]:
    """From the gradients of the contexts, those of the scores (N, K, S) and of the queries."""
    grads = torch.empty_like(weights), torch.empty_like(query)
    given = (grad, weights, query, *arrays, *grads)
    native.call(library(), "additive_step_backward", given, _sizes(query, arrays, bounded))
    return grads


def library() -> ctypes.CDLL | None:
    """The compiled loops; see `lightning_rnnattn.ops.native.load`."""
    return native.load(_SOURCE, "additive attention step by step")


def _sizes(query: Tensor, arrays: Arrays, bounded: bool) -> tuple[int, ...]:
    num, num_keys, features = arrays.key.shape
    return num, len(arrays.v), query.shape[1], num_keys, features, arrays.value.shape[-1], bounded
