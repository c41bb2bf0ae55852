"""Additive attention to one memory, a query at a time.

Letters: B batch, H heads, N = B·H, T steps, K queries of a step, S keys, D features, V features of a value.
"""

from typing import Any

import torch
from torch import Tensor

from lightning_rnnattn.ops.additive import native as additive_native
from lightning_rnnattn.ops.additive.exponentials import AdditiveKey, keys_hold
from lightning_rnnattn.ops.additive.paths import choose
from lightning_rnnattn.ops.additive.score import reach, score_backward_op
from lightning_rnnattn.ops.additive_steps import native
from lightning_rnnattn.ops.additive_steps.native import Arrays
from lightning_rnnattn.ops.derivatives import differentiable_once
from lightning_rnnattn.ops.native import takes, upcast


class AdditiveSteps:
    """What `lightning_rnnattn.ops.additive_attention` gives for queries that come one step after another.

    A step is one call of a compiled loop, and so is its gradient, which is the query's alone. What the steps give to
    keys, values and v is not summed step by step: it is taken at once, as if their queries had come together, when the
    gradient of the first step is known.

    Args:
        key: (B, H, S, D), from `lightning_rnnattn.ops.additive.additive_key`.
        value: (B, H, S, V).
        v: (H, D).
        mask: bool, (B, 1, 1, S), True = attend; None for all.
        num_steps: T, calls at most.
        num_queries: K.

    Raises:
        ValueError: if the shapes do not fit.
        RuntimeError: if differentiated twice.
    """

    def __init__(
        self, key: AdditiveKey, value: Tensor, v: Tensor, mask: Tensor | None, num_steps: int, num_queries: int
    ) -> None:
        self._lead, self._dtype = value.shape[:2], value.dtype
        self._features = key.key.shape[-1]
        if key.key.shape[:3] != value.shape[:3] or v.shape != (value.shape[1], self._features):
            shapes = ", ".join(str(tuple(x.shape)) for x in (key.key, value, v))
            raise ValueError(f"key, value and v are {shapes}: they must be (B, H, S, D), (B, H, S, V) and (H, D)")
        if mask is not None and mask.dtype is not torch.bool:
            raise ValueError(f"the mask is {mask.dtype}: it must be bool")
        v = upcast(v)
        rows, exp, bound, values = (upcast(x).flatten(0, 1).contiguous() for x in (*key, value))
        visible = None if mask is None else mask.expand(len(value), 1, 1, value.shape[2]).flatten(1).contiguous()
        self._arrays = Arrays(rows.detach(), exp, v.detach().contiguous(), values.detach(), visible)
        self._bounded = keys_hold(bound)
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._slots = None
        if torch.is_grad_enabled():
            slots = _Gather.apply(rows, values, v, exp, bound, self._kept, num_steps, num_queries)
            self._slots = zip(*(slot.unbind(0) for slot in slots), strict=True)

    @staticmethod
    def serves(key: AdditiveKey, value: Tensor, v: Tensor) -> bool:
        """Whether there are compiled loops for these: on a CPU, not in double precision, with something to attend."""
        fits = value.numel() > 0 and takes(*(upcast(x[:0]) for x in (key.key, value, v)))
        return fits and native.library() is not None and choose(key.exp.dtype, key.exp.device) is additive_native

    def __call__(self, query: Tensor) -> Tensor:
        """Attends from the queries of the next step.

        Args:
            query: (B, H, K, D).

        Returns:
            Context (B, H, K, V) in the values' dtype, zeros where a query has nothing to attend.
        """
        query = upcast(query).expand(*self._lead, -1, self._features).flatten(0, 1).contiguous()
        if self._slots is None:
            context, _ = native.attend(query, self._arrays, self._bounded)
        else:
            context = _Step.apply(query, *next(self._slots), self._arrays, self._bounded, self._kept)
        return context.unflatten(0, self._lead).to(self._dtype)


class _Step(torch.autograd.Function):
    """Passes on the gradients of its context and scores to those places of `_Gather` which it was given."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        context_slot: Tensor,
        score_slot: Tensor,
        arrays: Arrays,
        bounded: bool,
        kept: list[tuple[Tensor, Tensor]],
    ) -> Tensor:
        context, weights = native.attend(query, arrays, bounded)
        if context_slot.requires_grad:
            kept.append((query.detach(), weights))
        ctx.save_for_backward(query, weights)
        ctx.arrays, ctx.bounded = arrays, bounded
        return context

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, weights = ctx.saved_tensors
        grad = grad.contiguous()
        grad_score, grad_query = native.attend_backward(grad, weights, query, ctx.arrays, ctx.bounded)
        return grad_query, grad, grad_score, None, None, None


class _Gather(torch.autograd.Function):
    """Makes places (T, N, K, V) and (T, N, K, S), whose gradients are those of all contexts and scores."""

    @staticmethod
    def forward(
        ctx: Any,
        key: Tensor,
        value: Tensor,
        v: Tensor,
        exp: Tensor,
        bound: Tensor,
        kept: list[tuple[Tensor, Tensor]],
        num_steps: int,
        num_queries: int,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(key, exp, bound, v)
        ctx.kept = kept  # empty now, and full when the last step, and so the first gradient, has been taken
        zero, shape = key.new_zeros(()), (num_steps, len(key), num_queries)
        return zero.expand(*shape, value.shape[-1]), zero.expand(*shape, value.shape[1])

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad_context: Tensor, grad_score: Tensor) -> tuple[Tensor | None, ...]:
        queries, weights = (torch.cat(each, dim=1) for each in zip(*ctx.kept, strict=True))  # (N, T·K, D or S)
        to_context, to_score = (x[: len(ctx.kept)].transpose(0, 1).flatten(1, 2) for x in (grad_context, grad_score))
        first, last = reach(queries.shape[1], weights.shape[-1], None, None)
        _, grad_key, grad_v = score_backward_op(to_score, queries, *ctx.saved_tensors, first, last)
        return grad_key, weights.mT @ to_context, grad_v, *(None,) * 5
