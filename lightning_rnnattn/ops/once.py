"""Gradients that cannot be differentiated themselves, and say so."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates the ``backward`` of a ``torch.autograd.Function``: a gradient of what it returns is an error.

    Torch's own ``once_differentiable`` ties that error to nothing: `torch.autograd.grad` of a gradient's penalty walks
    around it, and is wrong in silence. Here it is tied to the gradients that come in and to the inputs that were saved.
    """

    @functools.wraps(backward)
    def refusing(ctx: Any, *grads: Tensor) -> Any:
        with torch.no_grad():
            results = backward(ctx, *grads)
        if not torch.is_grad_enabled():
            return results
        alone = not isinstance(results, tuple)
        results = (results,) if alone else results
        known = [x for x in (*grads, *ctx.saved_tensors) if x is not None]
        made = iter(_Refusal.apply(sum(x is not None for x in results), *filter(_is_tensor, results), *known))
        results = tuple(next(made) if _is_tensor(x) else x for x in results)
        return results[0] if alone else results

    return refusing


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Tensor)


class _Refusal(torch.autograd.Function):
    """Hands on its first tensors."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.view_as(x) for x in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError("this operation is differentiable once: on a CPU, double precision may know no such limit")
