"""The logarithm of a sum of exponentials on a CPU by compiled C++ (native.cpp)."""

import ctypes
from pathlib import Path

from torch import Tensor

from lightning_rnnattn.ops import native

_SOURCE = Path(__file__).with_name("native.cpp")


def logsumexp(x: Tensor) -> Tensor:
    """``x.logsumexp(-1)`` of float32."""
    out = x.new_empty(x.shape[:-1])
    native.call(library(), "logsumexp", (x.contiguous(), out), (out.numel(), x.shape[-1]))
    return out


def library() -> ctypes.CDLL | None:
    """The compiled loop; see `lightning_rnnattn.ops.native.load`."""
    return native.load(_SOURCE, "the sum of exponentials")
