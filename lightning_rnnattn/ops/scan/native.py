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


def gated_scan(update: Tensor, candidate: Tensor, forget: Tensor | None, start: Tensor, reverse: bool) -> Tensor:
    """See `lightning_rnnattn.ops.scan.gated.gated_scan`; float32 only."""
    h = update.new_empty(update.shape)
    gates, kind, rows = _gates(update, candidate, forget)
    native.call(library(), f"gated_scan_{kind}", (*gates, start, h), (*h.shape, reverse, *rows))
    return h


def gated_scan_backward(
    grad: Tensor, update: Tensor, candidate: Tensor, forget: Tensor | None, start: Tensor, h: Tensor, reverse: bool
) -> list[Tensor]:
    """From the gradient of h, those of update, candidate, forget where there is one, and start."""
    gates, kind, rows = _gates(update, candidate, forget)
    grads = [*(torch.empty_like(h) for _ in gates), torch.empty_like(start)]
    arrays = (grad, *gates, start, h, *grads)
    native.call(library(), f"gated_scan_backward_{kind}", arrays, (*h.shape, reverse, *rows))
    return grads


def _gates(update: Tensor, candidate: Tensor, forget: Tensor | None) -> tuple[list[Tensor], str, list[int]]:
    """What there is of them; which loop takes these; and how far their rows are from each other."""
    gates = [_by_rows(x) for x in (update, candidate, forget) if x is not None]
    return gates, "single" if forget is None else "pair", [x.stride(1) for x in gates]


def _by_rows(x: Tensor) -> Tensor:
    """The same with its rows (.., D) equally far from each other, as they are in a part of a linear layer's output."""
    by_rows = x.stride(2) == 1 and x.stride(0) == x.shape[1] * x.stride(1)
    # A dimension of one may have any stride: `contiguous` would let it be.
    return x if by_rows else x.clone(memory_format=torch.contiguous_format)


def library() -> ctypes.CDLL | None:
    """The compiled loops; see `lightning_rnnattn.ops.native.load`."""
    return native.load(_SOURCE, "the scan of linear recurrences")
