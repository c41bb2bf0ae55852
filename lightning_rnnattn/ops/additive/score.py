"""The additive score as an operator of torch's dispatcher, so that autograd, autocast, compile and export see one node.

Letters: B batch, H heads, N = B·H, T query time, S key time, D features.
"""

import math
from typing import Any

import torch
from torch import Tensor

from lightning_rnnattn.ops.additive.exponentials import AdditiveKey, additive_key, raw_key
from lightning_rnnattn.ops.additive.paths import choose, is_small
from lightning_rnnattn.ops.additive.reference import additive_score_reference
from lightning_rnnattn.ops.native import upcast


def additive_score(query: Tensor, key: Tensor | AdditiveKey, v: Tensor) -> Tensor:
    r"""How well each query matches each key, by a layer of tanh units (Bahdanau et al. 2015, appendix A.1.2).

    .. math:: e_{ts} = \sum_d v_d \tanh(q_{td} + k_{sd})
                     = \sum_d v_d - 2 \sum_d \frac{v_d}{1 + e^{2 q_{td}} e^{2 k_{sd}}}

    The right-hand side is what is computed: exponentials once per row, then one multiply-add and one reciprocal for
    each of the T·S·D elements. None of these is stored; the backward pass computes the reciprocals anew.

    For every finite input with D up to 4096, the absolute error of a float32 score is at most :math:`8 \varepsilon
    \sum_d |v_d|`, with :math:`\varepsilon = 2^{-23}`. Scores enter a softmax, where absolute error is what counts; no
    relative accuracy is promised for scores much smaller than :math:`\sum |v|`.

    Args:
        query: (..., T, D), projected.
        key: (..., S, D), projected; or from `additive_key`, which pays where keys meet many queries one by one.
        v: (D,), or (H, D) for leading dimensions (..., H).

    Returns:
        (..., T, S) in the dtype of ``query``; half precision is computed in float32 and rounded once.

    Raises:
        ValueError: if the shapes do not fit.
        RuntimeError: if differentiated twice (small work excepted, see
            `lightning_rnnattn.ops.additive.paths.is_small`).

    Example:
        >>> query, key = torch.tensor([[0.5], [-1.0]]), torch.tensor([[0.5], [1.0], [2.0]])
        >>> additive_score(query, key, torch.tensor([2.0]))  # 2 tanh(q + k)
        tensor([[ 1.5232,  1.8103,  1.9732],
                [-0.9242,  0.0000,  1.5232]])
    """
    return reached_score(query, key, v, None, None).to(query.dtype)


def reached_score(query: Tensor, key: Tensor | AdditiveKey, v: Tensor, before: int | None, after: int | None) -> Tensor:
    """`additive_score` in float32 or float64, of the keys in reach.

    Args:
        query: (..., T, D).
        key: (..., S, D).
        v: (D,) or (H, D).
        before: keys in reach before a query's own position S - T + t; None for all.
        after: keys in reach after it; None for all. Out of reach, scores are any finite number, to be masked.
    """
    if is_small(query, key):
        raw, wide = raw_key(key), upcast(query)
        leading_dims(query, raw, v)
        return additive_score_reference(wide, raw.to(wide.dtype), v.to(wide.dtype))
    query, key, v, lead = flatten_heads(query, key, v)
    first, last = reach(query.shape[-2], key.key.shape[-2], before, after)
    score: Tensor = score_op(query, *key, v, first, last)
    return score.view(*lead, *score.shape[-2:])


def leading_dims(query: Tensor, key: Tensor, v: Tensor) -> torch.Size:
    """The leading dimensions that query and key broadcast to.

    Raises:
        ValueError: if the shapes do not fit.
    """
    lead = query.shape[:-2]
    if lead != key.shape[:-2]:
        lead = torch.broadcast_shapes(lead, key.shape[:-2])
    fits_heads = v.dim() == 1 or (v.dim() == 2 and lead[-1:] == v.shape[:1])
    if not (query.shape[-1] == key.shape[-1] == v.shape[-1] and fits_heads):
        raise ValueError(
            f"query {tuple(query.shape)}, key {tuple(key.shape)} and v {tuple(v.shape)} do not fit: expected "
            "(..., T, D), (..., S, D) and (D,), or (..., H, T, D), (..., H, S, D) and (H, D)"
        )
    return lead


def flatten_heads(query: Tensor, key: Tensor | AdditiveKey, v: Tensor) -> tuple[Tensor, AdditiveKey, Tensor, list[int]]:
    """Query (N, T, D), keys (N, S, D), v (H, D), in one dtype and contiguous, and the leading dimensions."""
    raw = raw_key(key)
    lead = leading_dims(query, raw, v)
    heads = 1 if v.dim() == 1 else v.shape[0]
    query = upcast(query)
    if not isinstance(key, AdditiveKey) or key.exp.dtype != query.dtype:
        key = additive_key(raw.to(query.dtype))
    size = math.prod(lead)

    def flat(x: Tensor) -> Tensor:
        x = x if x.shape[:-2] == lead else x.expand(*lead, *x.shape[-2:])
        return x.reshape(size, *x.shape[-2:]).contiguous()

    v = v.to(query.dtype).reshape(heads, -1).contiguous()
    return flat(query), AdditiveKey(*map(flat, key)), v, list(lead)


def reach(num_queries: int, num_keys: int, before: int | None, after: int | None) -> tuple[int, int]:
    """``first`` and ``last``, so that query t reaches the keys t + first <= s < t + last."""
    own = num_keys - num_queries
    return -num_queries if before is None else own - before, num_keys if after is None else own + after + 1


@torch.library.custom_op("lightning_rnnattn::additive_score", mutates_args=())
def score_op(
    query: Tensor, key: Tensor, key_exp: Tensor, key_bound: Tensor, v: Tensor, first: int, last: int
) -> Tensor:
    """Scores (N, T, S); see `lightning_rnnattn.ops.additive.paths.Path`."""
    path = choose(query.dtype, query.device)
    return path.score(query, AdditiveKey(key, key_exp, key_bound), v, first, last)


@torch.library.custom_op("lightning_rnnattn::additive_score_backward", mutates_args=())
def score_backward_op(
    grad: Tensor, query: Tensor, key: Tensor, key_exp: Tensor, key_bound: Tensor, v: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to query, key and v; see `lightning_rnnattn.ops.additive.paths.Path`."""
    path = choose(query.dtype, query.device)
    grad_query, grad_key, grad_v = path.score_backward(
        grad.contiguous(), query, AdditiveKey(key, key_exp, key_bound), v, first, last
    )
    return grad_query, grad_key, grad_v.view(-1, *v.shape).sum(0)


@score_op.register_fake
def _(query: Tensor, key: Tensor, key_exp: Tensor, key_bound: Tensor, v: Tensor, first: int, last: int) -> Tensor:
    return query.new_empty(query.shape[0], query.shape[1], key.shape[1])


@score_backward_op.register_fake
def _(
    grad: Tensor, query: Tensor, key: Tensor, key_exp: Tensor, key_bound: Tensor, v: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(v)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.first, ctx.last = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_query, grad_key, grad_v = score_backward_op(grad, *ctx.saved_tensors, ctx.first, ctx.last)
    return grad_query, grad_key, None, None, grad_v, None, None


def refuse_second_derivative(ctx: Any, *grads: Tensor) -> None:
    """The backward of a backward operator."""
    raise RuntimeError("additive attention is differentiable once: use additive_attention_reference for more")


score_op.register_autograd(_backward, setup_context=_save_inputs)
score_backward_op.register_autograd(refuse_second_derivative)
for _op in (score_op, score_backward_op):
    for _device in ("cpu", "cuda"):
        _op.register_autocast(_device, torch.float32)  # or what a path calls would be cast to half precision again
