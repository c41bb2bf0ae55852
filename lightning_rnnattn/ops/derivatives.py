"""Gradients of gradients, where those are taken by other means than torch's operations."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def differentiable_gradients(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], grads: Sequence[Tensor], needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """What the ``backward`` of a ``torch.autograd.Function`` returns where its gradients are to be differentiated.

    Args:
        function: its outputs from its inputs, in torch's operations.
        inputs: as they were saved.
        grads: of the outputs.
        needs: which inputs want a gradient.
    """
    # As views, or what an input is made of another one by would be differentiated here, and by the caller again.
    inputs = [each.view_as(each) for each in inputs]
    outputs = function(*inputs)
    wanted = [each for each, needed in zip(inputs, needs, strict=True) if needed]
    grads = [grad.to(output.dtype) for grad, output in zip(grads, outputs, strict=True)]
    found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True, allow_unused=True))
    return tuple(next(found) if needed else None for needed in needs)


def differentiable_once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates the ``backward`` of a ``torch.autograd.Function``: a gradient of what it returns is an error.

    Torch's own ``once_differentiable`` ties that error to nothing that is there: `torch.autograd.grad` of a gradient's
    penalty walks around it, and is wrong in silence. Here it is tied to the gradients that come in, and to the inputs
    among what was saved.
    """

    @functools.wraps(backward)
    def refusing(ctx: Any, *grads: Tensor) -> Any:
        with torch.no_grad():
            results = backward(ctx, *grads)
        if not torch.is_grad_enabled():
            return results
        alone = not isinstance(results, tuple)
        results = (results,) if alone else results
        # The last of these is there for `Tensor.backward`, which asks for the gradients of all leaves.
        known = [x for x in (*grads, *ctx.saved_tensors) if x is not None] + [torch.empty(0, requires_grad=True)]
        tensors = [x for x in results if isinstance(x, Tensor)]
        made = iter(_Refusal.apply(len(tensors), *tensors, *known))
        results = tuple(next(made) if isinstance(x, Tensor) else x for x in results)
        return results[0] if alone else results

    return refusing


class _Refusal(torch.autograd.Function):
    """Hands on its first tensors."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.clone() for x in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError("a gradient that is differentiable once cannot be differentiated again")
