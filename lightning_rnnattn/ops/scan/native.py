"""The linear recurrence on a CPU by compiled C++ (native.cpp): one pass over memory."""

import ctypes
from pathlib import Path

import torch
from torch import Tensor

from lightning_rnnattn.ops import native

_SOURCE = Path(__file__).with_name("native.cpp")
_NAMES = {torch.float32: "float32", torch.float64: "float64"}


def scan(a: Tensor, b: Tensor, start: Tensor, reverse: bool) -> Tensor:
    """See `lightning_rnnattn.ops.scan.blocked.scan`."""
    h = torch.empty_like(b)
    native.call(library(), f"scan_{_NAMES[a.dtype]}", (a, b, start, h), (*a.shape, reverse))
    return h


def scan_backward(
    grad: Tensor, a: Tensor, start: Tensor, h: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See `lightning_rnnattn.ops.scan.blocked.scan_backward`."""
    grads = (torch.empty_like(a), torch.empty_like(a), torch.empty_like(start))
    native.call(library(), f"scan_backward_{_NAMES[a.dtype]}", (grad, a, start, h, *grads), (*a.shape, reverse))
    return grads


def library() -> ctypes.CDLL | None:
    """The compiled loops; see `lightning_rnnattn.ops.native.load`."""
    return native.load(_SOURCE, "the scan of linear recurrences")
