"""A layer of an LSTM over sequences of unequal lengths.

Letters: M tokens of all sequences, E features of an input, D features of a state, B sequences.

Tokens lie as in torch's packed sequences: the first of each sequence, longest sequence first; then the second of those
that have one; and so on. So a step is some rows next to each other, and its sequences are the first of those before.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_rnnattn.ops.lstm import native
from lightning_rnnattn.ops.native import takes, upcast


class LSTMWeights(NamedTuple):
    """The parameters of a layer in one direction, as torch names and orders them.

    Attributes:
        weight_ih: (4 D, E).
        weight_hh: (4 D, D).
        bias_ih: (4 D,).
        bias_hh: (4 D,).
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor


def serves(x: Tensor, weights: Sequence[Tensor]) -> bool:
    """Whether `packed_lstm` runs: on a CPU, with weights in float32, outside of traces, and with a compiler."""
    wide = upcast(x[:0]) if torch.is_autocast_enabled("cpu") else x  # half precision comes from a layer below
    return takes(wide, *weights) and native.library() is not None


def packed_lstm(
    x: Tensor, sizes: Sequence[int], h: Tensor, c: Tensor, weights: LSTMWeights, reverse: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """What torch's kernel gives for a packed sequence, but that its gradient takes time linear in the tokens.

    Torch makes of each step a slice, whose gradient is as long as all tokens. Here the whole is one operator: a product
    and a compiled loop a step either way; the weights' gradients, as the inputs' share of the gates, are one product
    for all steps. Under autocast products are taken in its dtype, in which all is given, and the rest in float32.

    Args:
        x: (M, E).
        sizes: how many sequences have a first token, a second one, and so on.
        h: (B, D), the output before, in the order of the sequences.
        c: (B, D), the cell before.
        weights: of the layer.
        reverse: reads each sequence from its end.

    Returns:
        Output (M, D), and h and c behind the last token of each sequence (B, D).

    Raises:
        RuntimeError: if differentiated twice.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    steps = [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
    order = steps[::-1] if reverse else steps
    bias = weights.bias_ih + weights.bias_hh
    output, h, c = _PackedLSTM.apply(
        x, h, c, weights.weight_ih, weights.weight_hh, bias, order, dtype, torch.is_grad_enabled()
    )
    return output, h, c


class _PackedLSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h: Tensor,
        c: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        steps: list[slice],
        dtype: torch.dtype,
        keep: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, by_input, by_state = x.to(dtype), weight_ih.to(dtype), weight_hh.to(dtype)
        gates = torch.addmm(bias.to(dtype), x, by_input.t()).float()
        h, c = _own(h), _own(c)
        output = gates.new_empty(len(x), h.shape[1])
        h_before, c_before = gates.new_empty(2, len(x) if keep else 0, h.shape[1])
        for step in steps:
            here, n = gates[step], step.stop - step.start
            _add_product(here, h[:n], by_state.t(), dtype)
            before = (h_before[step], c_before[step]) if keep else ()
            native.step(here, h[:n], c[:n], output[step], *before)
        ctx.save_for_backward(x, by_input, by_state, gates, h_before, c_before)
        ctx.steps, ctx.dtype = steps, dtype
        return output.to(dtype), h.to(dtype), c.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        x, by_input, by_state, gates, h_before, c_before = ctx.saved_tensors
        grad_output, grad_h, grad_c = grad_output.float().contiguous(), _own(grad_h), _own(grad_c)
        grad_gates = torch.empty_like(gates)
        for step in reversed(ctx.steps):
            here, n = grad_gates[step], step.stop - step.start
            native.step_backward(gates[step], c_before[step], grad_output[step], grad_h[:n], grad_c[:n], here)
            grad_h[:n] = here.to(ctx.dtype) @ by_state
        needs, grads = ctx.needs_input_grad, grad_gates.to(ctx.dtype)
        to_x = grads @ by_input if needs[0] else None
        to_weight_ih = (grads.t() @ x).float() if needs[3] else None
        to_weight_hh = (grads.t() @ h_before.to(ctx.dtype)).float() if needs[4] else None
        return to_x, grad_h, grad_c, to_weight_ih, to_weight_hh, grad_gates.sum(0), None, None, None


def _own(x: Tensor) -> Tensor:
    """A copy in float32."""
    return x.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _add_product(total: Tensor, x: Tensor, weight: Tensor, dtype: torch.dtype) -> None:
    if dtype is torch.float32:
        total.addmm_(x, weight)
    else:
        total += x.to(dtype) @ weight
