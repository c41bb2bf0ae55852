"""The linear recurrence as an operator of torch: autograd, autocast, compile and export see one node.

Letters: B batch, T time, D features.
"""

from typing import Any

import torch
from torch import Tensor

from lightning_rnnattn.ops.scan import blocked, native


def linear_scan(a: Tensor, b: Tensor, start: Tensor | None = None, *, reverse: bool = False) -> Tensor:
    r"""All states of a linear recurrence.

    .. math:: h_t = a_t \odot h_{t-1} + b_t

    Time is not parallel by logarithms and prefix products (Blelloch 1990; Heinsen 2023), which need positive numbers or
    lose accuracy: coefficients have any size and sign, and values and gradients are those of the sequential form within
    rounding. On a CPU a compiled loop passes over memory once; elsewhere about 3√T calls work on a √T-th of the data.

    Args:
        a: (B, T, D), T at least 1.
        b: (B, T, D).
        start: (B, D), the state before the first step; zeros where None.
        reverse: whether time runs from the last step to the first: h_t = a_t h_{t+1} + b_t.

    Returns:
        h (B, T, D) in the dtype of ``b``; half precision is computed in float32 and rounded once.

    Raises:
        ValueError: if the shapes do not fit.
        RuntimeError: if differentiated twice; `linear_scan_reference` can be.

    Example:
        >>> ones = torch.ones(1, 4, 1)
        >>> linear_scan(0.5 * ones, ones).flatten()
        tensor([1.0000, 1.5000, 1.7500, 1.8750])
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    state = start_or_zeros(a, b, start, dtype)
    h: Tensor = scan_op(a.to(dtype).contiguous(), b.to(dtype).contiguous(), state, reverse)
    return h.to(b.dtype)


def start_or_zeros(a: Tensor, b: Tensor, start: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The state before the first step (B, D), contiguous, of two tensors (B, T, D).

    Raises:
        ValueError: if the shapes do not fit.
    """
    if a.shape != b.shape or a.dim() != 3 or not a.shape[1]:
        raise ValueError(f"{tuple(a.shape)} and {tuple(b.shape)} do not fit: expected twice (B, T, D), T at least 1")
    shape = (b.shape[0], b.shape[2])
    if start is not None and start.shape != shape:
        raise ValueError(f"start {tuple(start.shape)} does not fit {tuple(b.shape)}: expected (B, D)")
    return b.new_zeros(shape, dtype=dtype) if start is None else start.to(dtype).contiguous()


def runs_natively(device: torch.device) -> bool:
    """Whether a compiled loop runs a scan: a function of the device, and of whether there is a compiler, alone."""
    return device.type == "cpu" and native.library() is not None


@torch.library.custom_op("lightning_rnnattn::linear_scan", mutates_args=())
def scan_op(a: Tensor, b: Tensor, start: Tensor, reverse: bool) -> Tensor:
    """See `lightning_rnnattn.ops.scan.blocked.scan`."""
    return (native if runs_natively(a.device) else blocked).scan(a, b, start, reverse)


@torch.library.custom_op("lightning_rnnattn::linear_scan_backward", mutates_args=())
def scan_backward_op(grad: Tensor, a: Tensor, start: Tensor, h: Tensor, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """See `lightning_rnnattn.ops.scan.blocked.scan_backward`."""
    path = native if runs_natively(a.device) else blocked
    return path.scan_backward(grad.contiguous(), a, start, h, reverse)


@scan_op.register_fake
def _(a: Tensor, b: Tensor, start: Tensor, reverse: bool) -> Tensor:
    return torch.empty_like(b)


@scan_backward_op.register_fake
def _(grad: Tensor, a: Tensor, start: Tensor, h: Tensor, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(a), torch.empty_like(a), torch.empty_like(start)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, _, start, ctx.reverse = inputs
    ctx.save_for_backward(a, start, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_a, grad_b, grad_start = scan_backward_op(grad, *ctx.saved_tensors, ctx.reverse)
    return grad_a, grad_b, grad_start, None


def refuse_second_derivative(ctx: Any, *grads: Tensor) -> None:
    """The backward of a backward operator."""
    raise RuntimeError("a scan is differentiable once: use linear_scan_reference for more")


scan_op.register_autograd(_backward, setup_context=_save)
scan_backward_op.register_autograd(refuse_second_derivative)
for _op in (scan_op, scan_backward_op):
    for _device in ("cpu", "cuda"):
        _op.register_autocast(_device, torch.float32)  # or what a path calls would be cast to half precision again
