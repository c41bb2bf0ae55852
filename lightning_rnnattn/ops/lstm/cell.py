"""A step of an LSTM behind its matrix products.

Letters: N rows, D features of a state.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_rnnattn.ops.lstm import native
from lightning_rnnattn.ops.native import takes, upcast


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

    Raises:
        RuntimeError: if the compiled loop is differentiated twice.
    """
    if gates.device.type == "cpu" and gates.shape == (len(c), 4 * c.shape[-1]):
        wide, dtype = (upcast(gates), upcast(c)), torch.promote_types(gates.dtype, c.dtype)
        if takes(*wide) and native.library() is not None:
            h, c = _Cell.apply(*wide)
            return h.to(dtype), c.to(dtype)
    i, f, g, o = gates.chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


class _Cell(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates, before = gates.clone(memory_format=torch.contiguous_format), c.contiguous()
        h, c = torch.empty_like(before), before.clone()
        native.step(gates, h, c)
        ctx.save_for_backward(gates, before)
        return h, c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor]:
        gates, before = ctx.saved_tensors
        grad_gates, grad_c = torch.empty_like(gates), grad_c.clone(memory_format=torch.contiguous_format)
        native.step_backward(gates, before, None, grad_h.contiguous(), grad_c, grad_gates)
        return grad_gates, grad_c
