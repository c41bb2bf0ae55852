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


def scan_backward(grad: Tensor, a: Tensor, start: Tensor, h: Tensor, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `lightning_rnnattn.ops.scan.blocked.scan_backward`."""
    grads = (torch.empty_like(a), torch.empty_like(a), torch.empty_like(start))
    native.call(library(), f"scan_backward_{_NAMES[a.dtype]}", (grad, a, start, h, *grads), (*a.shape, reverse))
    return grads


def gated_scan(update: Tensor, candidate: Tensor, start: Tensor, reverse: bool) -> Tensor:
    """See `lightning_rnnattn.ops.scan.gated.gated_scan`; float32 only."""
    update, candidate = _by_rows(update), _by_rows(candidate)
    h = torch.empty_like(update, memory_format=torch.contiguous_format)
    sizes = (*update.shape, reverse, update.stride(1), candidate.stride(1))
    native.call(library(), "gated_scan", (update, candidate, start, h), sizes)
    return h


def gated_scan_backward(
    grad: Tensor, update: Tensor, candidate: Tensor, start: Tensor, h: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """From the gradient of h, those of update, candidate and start."""
    update, candidate = _by_rows(update), _by_rows(candidate)
    grads = (torch.empty_like(h), torch.empty_like(h), torch.empty_like(start))
    sizes = (*update.shape, reverse, update.stride(1), candidate.stride(1))
    native.call(library(), "gated_scan_backward", (grad, update, candidate, start, h, *grads), sizes)
    return grads


def _by_rows(x: Tensor) -> Tensor:
    """The same with its rows (.., D) equally far from each other, as they are in a part of a linear layer's output."""
    by_rows = x.stride(2) == 1 and x.stride(0) == x.shape[1] * x.stride(1)
    return x if by_rows else x.contiguous()


def library() -> ctypes.CDLL | None:
    """The compiled loops; see `lightning_rnnattn.ops.native.load`."""
    return native.load(_SOURCE, "the scan of linear recurrences")
