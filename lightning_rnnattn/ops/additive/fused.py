"""Additive attention with scores, softmax and values in one operator, for the path whose kernels fuse them (Triton's).

Letters: B batch, H heads, N = B·H, T query time, S key time, D features, V value features.
"""

from typing import Any

import torch
from torch import Tensor

from lightning_rnnattn.ops.additive import triton_path
from lightning_rnnattn.ops.additive.exponentials import AdditiveKey
from lightning_rnnattn.ops.additive.score import flatten_heads, reach, refuse_second_derivative
from lightning_rnnattn.ops.additive.triton_path import Visibility


def fused_attention(
    query: Tensor,
    key: Tensor | AdditiveKey,
    value: Tensor,
    v: Tensor,
    mask: Tensor | None,
    before: int | None,
    after: int | None,
    dropout_p: float,
) -> Tensor:
    """`additive_attention` without weights; reach as in `lightning_rnnattn.ops.additive.score.reached_score`."""
    query, key, v, lead = flatten_heads(query, key, v)
    num_queries, num_keys = query.shape[-2], key.key.shape[-2]
    rows = value.to(query.dtype).expand(*lead, *value.shape[-2:]).reshape(len(query), *value.shape[-2:]).contiguous()
    if mask is not None:
        mask = mask.expand(*lead, num_queries, num_keys)  # strides of zero: nothing is copied
        mask = mask.flatten(0, -4) if len(lead) > 2 else mask[(slice(None),) * len(lead) + (None,) * (2 - len(lead))]
    seed = torch.randint(1 << 31, (1,), device=query.device) if dropout_p > 0 else None
    first, last = reach(num_queries, num_keys, before, after)
    context, _ = attention_op(query, *key, rows, v, mask, seed, first, last, dropout_p)
    return context.view(*lead, *context.shape[-2:]).to(value.dtype)


@torch.library.custom_op("lightning_rnnattn::additive_attention", mutates_args=())
def attention_op(
    query: Tensor,
    key: Tensor,
    key_exp: Tensor,
    key_bound: Tensor,
    value: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: Tensor | None,
    first: int,
    last: int,
    dropout_p: float,
) -> tuple[Tensor, Tensor]:
    """See `lightning_rnnattn.ops.additive.triton_path.attention`."""
    prepared, seen = AdditiveKey(key, key_exp, key_bound), Visibility(mask, first, last, dropout_p, seed)
    return triton_path.attention(query, prepared, value, v, seen)


@torch.library.custom_op("lightning_rnnattn::additive_attention_backward", mutates_args=())
def attention_backward_op(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    key_exp: Tensor,
    key_bound: Tensor,
    value: Tensor,
    v: Tensor,
    mask: Tensor | None,
    seed: Tensor | None,
    context: Tensor,
    lse: Tensor,
    first: int,
    last: int,
    dropout_p: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients to query, key, value and v; see `lightning_rnnattn.ops.additive.triton_path.attention_backward`."""
    prepared, seen = AdditiveKey(key, key_exp, key_bound), Visibility(mask, first, last, dropout_p, seed)
    grad_query, grad_key, grad_value, grad_v = triton_path.attention_backward(
        grad.contiguous(), query, prepared, value, v, context, lse, seen
    )
    return grad_query, grad_key, grad_value, grad_v.view(-1, *v.shape).sum(0)


@attention_op.register_fake
def _(query: Tensor, key: Tensor, key_exp: Tensor, key_bound: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return query.new_empty(*query.shape[:2], value.shape[-1]), query.new_empty(query.shape[:2])


@attention_backward_op.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, key_exp: Tensor, key_bound: Tensor, value: Tensor, v: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), torch.empty_like(v)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.first, ctx.last, ctx.dropout_p = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    grad_query, grad_key, grad_value, grad_v = attention_backward_op(
        grad, *ctx.saved_tensors, ctx.first, ctx.last, ctx.dropout_p
    )
    return grad_query, grad_key, None, None, grad_value, grad_v, *(None,) * 5


attention_op.register_autograd(_backward, setup_context=_save)
attention_backward_op.register_autograd(refuse_second_derivative)
for _op in (attention_op, attention_backward_op):
    for _device in ("cpu", "cuda"):
        _op.register_autocast(_device, torch.float32)
