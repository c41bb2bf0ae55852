"""What torch's recurrent cells do behind their matrix products.

Letters: N rows, D features of a state, G gates times D.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_rnnattn.ops.derivatives import differentiable_gradients
from lightning_rnnattn.ops.native import takes, upcast
from lightning_rnnattn.ops.recurrent import native

Parts = tuple[Tensor, ...]
"""A state: (h,), or an LSTM's (h, c)."""


def _lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    i, f, g, o = gates.chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(by_x: Tensor, by_h: Tensor, h: Tensor) -> Tensor:
    size = h.shape[-1]
    r, z = (by_x[..., : 2 * size] + by_h[..., : 2 * size]).sigmoid().chunk(2, dim=-1)
    n = torch.addcmul(by_x[..., 2 * size :], r, by_h[..., 2 * size :]).tanh()
    return n + z * (h - n)


@dataclass(frozen=True)
class Cell:
    """A recurrent cell.

    Attributes:
        name: what the compiled loops call it.
        equations: the state after a step, from inputs' and state's share of the gates, (N, G), and the state before.
        keeps_more: whether the gradient needs more than gates and h.
        splits_shares: whether the shares of the gates have different gradients.
        keeps_dtype: whether the output has the dtype of the one before under autocast, since it is a sum with that.
    """

    name: str
    equations: Callable[[Tensor, Tensor, Parts], Parts]
    keeps_more: bool = False
    splits_shares: bool = False
    keeps_dtype: bool = False


CELLS = {
    "LSTM": Cell("lstm", lambda by_x, by_h, state: _lstm(by_x + by_h, state[1]), keeps_more=True),
    "GRU": Cell(
        "gru",
        lambda by_x, by_h, state: (_gru(by_x, by_h, *state),),
        keeps_more=True,
        splits_shares=True,
        keeps_dtype=True,
    ),
    "RNN_TANH": Cell("tanh", lambda by_x, by_h, _: ((by_x + by_h).tanh(),)),
    "RNN_RELU": Cell("relu", lambda by_x, by_h, _: ((by_x + by_h).relu(),)),
}
"""By the ``mode`` of torch's modules."""


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    r"""Output and cell of an LSTM after a step.

    .. math::
        c' = \sigma(f) \odot c + \sigma(i) \odot \tanh(g), \qquad h' = \sigma(o) \odot \tanh(c')

    On a CPU one compiled loop does it, and another the gradient; half precision is computed in float32.

    Args:
        gates: (N, 4 D), i, f, g and o side by side, as torch has them.
        c: (N, D), the cell before.

    Returns:
        h' and c', (N, D).
    """
    if gates.shape == (len(c), 4 * c.shape[-1]) and _compiles(gates, c):
        dtype = torch.promote_types(gates.dtype, c.dtype)
        h, c = _LSTMCell.apply(upcast(gates), upcast(c))
        return h.to(dtype), c.to(dtype)
    return _lstm(gates, c)


def gru_cell(by_x: Tensor, by_h: Tensor, h: Tensor) -> Tensor:
    r"""Output of a GRU after a step, in cuDNN's form.

    .. math::
        r, z = \sigma(x_{r,z} + h_{r,z}), \qquad n = \tanh(x_n + r \odot h_n), \qquad h' = (1 - z) \odot n + z \odot h

    On a CPU one compiled loop does it, and another the gradient; half precision is computed in float32.

    Args:
        by_x: (N, 3 D), the inputs' share of r, z and n side by side, as torch has them.
        by_h: (N, 3 D), the state's share.
        h: (N, D), the output before.

    Returns:
        h', (N, D).
    """
    if by_x.shape == by_h.shape == (len(h), 3 * h.shape[-1]) and _compiles(by_x, by_h, h):
        dtype = torch.promote_types(torch.promote_types(by_x.dtype, by_h.dtype), h.dtype)
        return _GRUCell.apply(upcast(by_x), upcast(by_h), upcast(h)).to(dtype)
    return _gru(by_x, by_h, h)


def _compiles(*tensors: Tensor) -> bool:
    on_cpu = tensors[0].device.type == "cpu"  # asked first: elsewhere nothing is to be cast for the answer
    return on_cpu and takes(*map(upcast, tensors)) and native.library() is not None


class _LSTMCell(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        made, after = float32_copy(gates), float32_copy(c)
        h = torch.empty_like(after)
        native.step("lstm", made, h, after)
        ctx.save_for_backward(gates, c, made)
        return h, after

    @staticmethod
    def backward(ctx: Any, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, made = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable_gradients(_lstm, inputs, (grad_h, grad_c), ctx.needs_input_grad)
        grad_gates, grad_c = torch.empty_like(made), float32_copy(grad_c)
        native.step_backward("lstm", made, float32_copy(grad_h), grad_c, grad_gates, kept=inputs[1].contiguous())
        return grad_gates, grad_c


class _GRUCell(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, by_x: Tensor, by_h: Tensor, h: Tensor) -> Tensor:
        made, after = float32_copy(by_x), float32_copy(h)
        kept = torch.empty_like(after)
        native.step("gru", made, after, by_h=by_h.contiguous(), kept=kept)
        ctx.save_for_backward(by_x, by_h, h, made, kept)
        return after

    @staticmethod
    def backward(ctx: Any, grad_h: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, made, kept = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable_gradients(lambda *x: [_gru(*x)], inputs, [grad_h], ctx.needs_input_grad)
        grad_by_x, grad_by_h, grad_h = torch.empty_like(made), torch.empty_like(made), float32_copy(grad_h)
        before = inputs[2].contiguous()
        native.step_backward("gru", made, grad_h, None, grad_by_x, grad_by_h, h_before=before, kept=kept)
        return grad_by_x, grad_by_h, grad_h


def float32_copy(x: Tensor) -> Tensor:
    """A contiguous copy, for a loop to write over."""
    return x.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
