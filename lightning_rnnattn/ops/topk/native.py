"""The largest numbers of rows on a CPU by compiled C++ (native.cpp)."""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from lightning_rnnattn.ops import native

_SOURCE = Path(__file__).with_name("native.cpp")


def topk(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``x.topk(k)`` of float32 (..., V), of equal numbers the first."""
    values = x.new_empty(*x.shape[:-1], k)
    index = torch.empty_like(values, dtype=torch.int64)
    native.call(library(), "topk", (x.contiguous(), values, index), (values.numel() // k, x.shape[-1], k))
    return values, index


def library() -> ctypes.CDLL | None:
    """The compiled loop; see `lightning_rnnattn.ops.native.load`."""
    return native.load(_SOURCE, "the choice of the largest numbers")
