"""A matrix product at each of several steps, its weights' gradient taken once.

Letters: N rows, T steps, U features that are multiplied, G features of a product.
"""

from typing import Any

import torch
from torch import Tensor

from lightning_rnnattn.ops.derivatives import differentiable_once
from lightning_rnnattn.ops.native import autocast_dtype


class Product:
    """Σ W_i u_i + shares[t] at each step t, the gradient of the W_i taken in one product for all steps.

    Args:
        shares: (T, N, G), what was known beforehand.
        weights: (G, U_i) each.
    """

    def __init__(self, shares: Tensor, *weights: Tensor) -> None:
        self._inputs: list[Tensor] = []
        self._whole: Tensor | None = None  # whose gradient they are kept for
        if len(shares) > 1:  # joining them costs more than one product saves
            weights = (torch.cat(weights, dim=1),) if len(weights) > 1 else weights
            # A compiler would take the list for what it is now: empty.
            if torch.is_grad_enabled() and weights[0].requires_grad and not torch.compiler.is_compiling():
                self._whole = weights[0]
                shares = _GatherGradient.apply(shares, weights[0], self._inputs)
                weights = (weights[0].detach(),)
            weights = (_as_multiplied(weights[0]),)
        self._shares, self._weights = shares.unbind(0), [weight.t() for weight in weights]

    def __call__(self, t: int, *inputs: Tensor) -> Tensor:
        """(N, U_i) each to (N, G)."""
        if len(inputs) > len(self._weights):
            inputs = (torch.cat(inputs, dim=-1),)
        total = self._shares[t]
        if self._whole is not None:
            self._inputs.append(inputs[0].detach())
            return _AddProduct.apply(total, inputs[0], self._weights[0], self._whole)
        for u, weight in zip(inputs, self._weights, strict=True):
            total = torch.addmm(total, u, weight)
        return total


def _as_multiplied(weight: Tensor) -> Tensor:
    """What autocast would make of a weight, at each step anew: it keeps none that is no parameter."""
    dtype = autocast_dtype(weight.device.type)
    return weight if dtype is None or weight.dtype is torch.float64 else weight.to(dtype)


class _AddProduct(torch.autograd.Function):
    """total + u Wᵀ, without the gradient of W, which `_GatherGradient` takes."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, u: Tensor, transposed: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(transposed, weight)
        ctx.dtypes = total.dtype, u.dtype
        return torch.addmm(total, u, transposed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        transposed, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to be differentiated, by the weight, too
            transposed = weight.t().to(transposed.dtype)
        to_total, to_u = ctx.dtypes
        product = (grad.to(transposed.dtype) @ transposed.t()).to(to_u) if ctx.needs_input_grad[1] else None
        return grad.to(to_total), product, None, None


class _GatherGradient(torch.autograd.Function):
    """Hands the shares on. Their gradient is that of each step's sum, so it gives the gradient of the weight, too."""

    @staticmethod
    def forward(ctx: Any, shares: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        # The list is empty now, and full when the last step, and so the first gradient, has been taken.
        ctx.inputs, ctx.dtype = inputs, weight.dtype
        return shares.view_as(shares)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        return grad, _of_weight(ctx, grad) if ctx.needs_input_grad[1] else None, None


@differentiable_once
def _of_weight(ctx: Any, grad: Tensor) -> Tensor:
    inputs = torch.cat(ctx.inputs).to(grad.dtype)
    steps = grad[: len(ctx.inputs)].flatten(0, 1)
    return (steps.t() @ inputs).to(ctx.dtype)
