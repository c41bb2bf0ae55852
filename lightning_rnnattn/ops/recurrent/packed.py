"""A layer of a recurrent network over sequences of unequal lengths.

Letters: M tokens of all sequences, E features of an input, D features of a state, G gates times D, B sequences.

Tokens lie as in torch's packed sequences: the first of each sequence, longest sequence first; then the second of those
that have one; and so on. So a step is some rows next to each other, and its sequences are the first of those before.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.ops.derivatives import differentiable_gradients
from lightning_rnnattn.ops.native import autocast_dtype, takes, upcast
from lightning_rnnattn.ops.recurrent import native
from lightning_rnnattn.ops.recurrent.cells import CELLS, Parts, float32_copy


class LayerWeights(NamedTuple):
    """The parameters of a layer in one direction, as torch names and orders them.

    Attributes:
        weight_ih: (G, E).
        weight_hh: (G, D).
        bias_ih: (G,).
        bias_hh: (G,).
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor


def serves(x: Tensor, weights: Sequence[Tensor]) -> bool:
    """Whether `packed_layer` runs: on a CPU, with weights in float32, outside of traces, and with a compiler."""
    wide = upcast(x[:0]) if autocast_dtype("cpu") else x  # half precision comes from a layer below
    return takes(wide, *weights) and native.library() is not None


def packed_layer(
    mode: str, x: Tensor, sizes: Sequence[int], state: Parts, weights: LayerWeights, reverse: bool = False
) -> tuple[Tensor, Parts]:
    """What torch's kernel gives for a packed sequence, but that its gradient takes time linear in the tokens.

    Torch makes of each step a slice, whose gradient is as long as all tokens. Here the whole is one operator: a product
    and a compiled loop a step either way; the weights' gradients, as the inputs' share of the gates, are one product
    for all steps. Under autocast products are taken in its dtype and the rest in float32; results have the dtype that
    torch gives them without packing. A gradient that is differentiated itself is that of `packed_layer_reference`.

    Args:
        mode: of torch's module: a key of `CELLS`.
        x: (M, E).
        sizes: how many sequences have a first token, a second one, and so on.
        state: (B, D) each, before the first token, in the order of the sequences.
        weights: of the layer.
        reverse: reads each sequence from its end.

    Returns:
        Output (M, D), and the state behind the last token of each sequence.
    """
    dtype = autocast_dtype("cpu") or torch.float32
    call = _Call(mode, sizes, reverse, dtype, torch.is_grad_enabled())
    output, *after = _PackedLayer.apply(call, x, *weights, *state)
    return output, tuple(after)


def packed_layer_reference(
    mode: str, x: Tensor, sizes: Sequence[int], state: Parts, weights: LayerWeights, reverse: bool = False
) -> tuple[Tensor, Parts]:
    """`packed_layer` by the cell's equations, step by step; for the arguments see there."""
    by_x, outputs = F.linear(x, weights.weight_ih, weights.bias_ih), {}
    for step in _steps(sizes, reverse):
        n = step.stop - step.start
        by_h = F.linear(state[0][:n], weights.weight_hh, weights.bias_hh)
        after = CELLS[mode].equations(by_x[step], by_h, tuple(part[:n] for part in state))
        outputs[step.start] = after[0]
        state = tuple(torch.cat([new, old[n:]]) for new, old in zip(after, state, strict=True))
    none = by_x[:0, : state[0].shape[-1]]
    return torch.cat([none, *(outputs[start] for start in sorted(outputs))]), state


def _steps(sizes: Sequence[int], reverse: bool) -> list[slice]:
    """The tokens of each step, in the order in which they are read."""
    steps = [slice(end - size, end) for size, end in zip(sizes, accumulate(sizes), strict=True)]
    return steps[::-1] if reverse else steps


class _Call(NamedTuple):
    """What no gradient is taken of."""

    mode: str
    sizes: Sequence[int]
    reverse: bool
    dtype: torch.dtype  # of products
    keep: bool  # what the gradient needs


class _PackedLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        mode, sizes, reverse, dtype, keep = call
        cell = CELLS[mode]
        weights, before = LayerWeights(*rest[:4]), rest[4:]
        by_state = weights.weight_hh.to(dtype).t()
        gates = F.linear(x.to(dtype), weights.weight_ih.to(dtype), weights.bias_ih.to(dtype)).float()
        bias = weights.bias_hh.contiguous()
        h, *c = state = [float32_copy(part) for part in before]
        by_h = gates.new_empty(len(h), gates.shape[1])
        output = gates.new_empty(len(x), h.shape[1])
        h_before = torch.empty_like(output) if keep else None
        kept = torch.empty_like(output) if keep and cell.keeps_more else None
        for step in _steps(sizes, reverse):
            n = step.stop - step.start
            _multiply(h[:n], by_state, by_h[:n])
            native.step(
                cell.name,
                gates[step],
                h[:n],
                *(part[:n] for part in c),
                by_h=by_h[:n],
                bias=bias,
                h_before=_rows(h_before, step),
                kept=_rows(kept, step),
                output=output[step],
            )
        ctx.save_for_backward(x, *rest, gates, h_before, kept)
        ctx.call = call
        result = torch.promote_types(dtype, before[0].dtype) if cell.keeps_dtype else dtype
        return output.to(result), *(part.to(result) for part in state)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, *grad_state: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest, gates, h_before, kept = ctx.saved_tensors
        mode, sizes, reverse, dtype, _ = ctx.call
        cell = CELLS[mode]
        if torch.is_grad_enabled():  # this gradient is to be differentiated, too
            return None, *_differentiable(ctx, (x, *rest), (grad_output, *grad_state))
        weights = LayerWeights(*rest[:4])
        by_state = weights.weight_hh.to(dtype)
        grad_output = grad_output.float().contiguous()
        grad_h, *grad_c = grad_before = [float32_copy(grad) for grad in grad_state]
        to_by_x = torch.empty_like(gates)
        to_by_h = torch.empty_like(gates) if cell.splits_shares else to_by_x
        for step in reversed(_steps(sizes, reverse)):
            n = step.stop - step.start
            native.step_backward(
                cell.name,
                gates[step],
                grad_h[:n],
                grad_c[0][:n] if grad_c else None,
                to_by_x[step],
                to_by_h[step] if cell.splits_shares else None,
                h_before=h_before[step],
                kept=_rows(kept, step),
                grad_output=grad_output[step],
            )
            _add_product(grad_h[:n], to_by_h[step], by_state)
        _, x_needs, ih_needs, hh_needs, *_ = ctx.needs_input_grad
        narrow_x, narrow_h = to_by_x.to(dtype), to_by_h.to(dtype)
        return (
            None,
            narrow_x @ weights.weight_ih.to(dtype) if x_needs else None,
            (narrow_x.t() @ x.to(dtype)).float() if ih_needs else None,
            (narrow_h.t() @ h_before.to(dtype)).float() if hh_needs else None,
            to_by_x.sum(0),
            to_by_h.sum(0),
            *grad_before,
        )


def _differentiable(ctx: Any, inputs: Parts, grads: Parts) -> tuple[Tensor | None, ...]:
    mode, sizes, reverse, *_ = ctx.call

    def run(*inputs: Tensor) -> Parts:
        x, *rest = (each.float() for each in inputs)
        output, after = packed_layer_reference(mode, x, sizes, tuple(rest[4:]), LayerWeights(*rest[:4]), reverse)
        return output, *after

    return differentiable_gradients(run, inputs, grads, ctx.needs_input_grad[1:])


def _rows(x: Tensor | None, step: slice) -> Tensor | None:
    return None if x is None else x[step]


def _multiply(x: Tensor, weight: Tensor, out: Tensor) -> None:
    """The product of x, as ``weight`` has its dtype, into an array in float32."""
    if weight.dtype is torch.float32:
        torch.mm(x, weight, out=out)
    else:
        out.copy_(x.to(weight.dtype) @ weight)


def _add_product(total: Tensor, x: Tensor, weight: Tensor) -> None:
    if weight.dtype is torch.float32:
        total.addmm_(x, weight)
    else:
        total += x.to(weight.dtype) @ weight
