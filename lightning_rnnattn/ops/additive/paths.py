"""Which implementation computes an additive score.

Letters: N batch × heads, H heads, T queries, S keys, D features.
"""

import os
from typing import Protocol, cast

import torch
from torch import Tensor

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.additive import blocked, native, triton_path
from lightning_rnnattn.ops.additive.exponentials import AdditiveKey, raw_key
from lightning_rnnattn.ops.native import traced

SETTING = "LIGHTNING_RNNATTN_ADDITIVE"
_SMALL = 1 << 16


class Path(Protocol):
    """One way to compute scores and their gradients, of contiguous tensors in one dtype.

    Query t reaches the keys ``t + first <= s < t + last``. Entries out of reach hold any finite number, and their
    gradient is zero (the caller masks them), so that a path may skip them.
    """

    def score(self, query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int) -> Tensor:
        """Query (N, T, D), keys (N, S, D) and v (H, D), where head is n mod H, to scores (N, T, S)."""

    def score_backward(
        self, grad: Tensor, query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From the gradient of the scores, those of query (N, T, D), key (N, S, D) and v, of each n apart: (N, D)."""


def choose(dtype: torch.dtype, device: torch.device) -> Path:
    """The path for float32 or float64 inputs (half precision has become float32 before).

    - ``native``: CPU and float32, where a C++ compiler is present. A machine's first call compiles for half a second.
    - ``triton``: CUDA and float32, where triton is installed.
    - ``blocked``: everything else, in eager torch.

    Nothing but dtype, device, what is installed and one setting decides, never the time that something took, so that
    a resumed run takes the path of the run that it resumes. Sizes matter only to `is_small`. The setting is the
    environment variable ``LIGHTNING_RNNATTN_ADDITIVE``: ``auto`` as above (the default), ``blocked`` to compile
    nothing, ``native`` or ``triton`` to fail where float32 would not take this path.

    Raises:
        UserError: if the setting is unknown, or demands a path that this machine lacks.
    """
    setting = os.environ.get(SETTING, "auto")
    if setting not in ("auto", "blocked", "native", "triton"):
        raise UserError(f"{SETTING}={setting} is unknown: choose auto, blocked, native or triton")
    if setting == "blocked" or dtype != torch.float32:
        return cast(Path, blocked)
    if setting != "triton" and device.type == "cpu" and native.library() is not None:
        return cast(Path, native)
    if fuses_values(dtype, device):
        return cast(Path, triton_path)
    if setting != "auto":
        raise UserError(f"{SETTING}={setting} cannot run on {device.type} here: a compiler or triton is missing")
    return cast(Path, blocked)


def is_small(query: Tensor, key: Tensor | AdditiveKey) -> bool:
    """Whether the plain formula serves best: on a CPU, for at most 2^16 elements (T·S·D over batch and heads).

    There the calls cost more than the arithmetic, and the tensor of tanh units, 256 KiB at most, stays in the cache.
    Any setting but ``auto`` sends small work down the paths of `choose`, too; so does a compiler that traces, for
    which sizes may be symbols. A trace takes it whatever the sizes.
    """
    if traced():
        return True
    if query.device.type != "cpu" or torch.compiler.is_compiling() or os.environ.get(SETTING, "auto") != "auto":
        return False
    return query.numel() * raw_key(key).shape[-2] <= _SMALL


def fuses_values(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the path is Triton's, which fuses scores, softmax and values into one operator."""
    settings = ("auto", "triton") if device.type == "cuda" else ("triton",)
    return dtype == torch.float32 and triton_path.available(device) and os.environ.get(SETTING, "auto") in settings
