"""Sparse alternatives to softmax: projections onto the simplex that give exact zeros.

Both solve  argmax_p p·x + H(p)  over distributions p, for an entropy H that lets p touch the simplex's faces; the
solution is a threshold tau of the sorted scores, found exactly (not by bisection), and its Jacobian needs the solution
only.
"""

from typing import Any

import torch
from torch import Tensor


def sparsemax(scores: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    r"""The Euclidean projection onto the simplex (Martins and Astudillo 2016, equations 1 and 3).

    .. math:: w_j = \max(x_j - \tau, 0), \qquad \tau : \sum_j w_j = 1

    Args:
        scores: (..., S) floating point.
        mask: bool, broadcastable to ``scores``, True = attend; a row with nothing to attend gives zeros.
        dim: the dimension that is normalised.

    Returns:
        Weights of the shape and dtype of ``scores``; most of them are exactly zero.
    """
    return _project(_Sparsemax, scores, mask, dim)


def entmax15(scores: Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    r"""1.5-entmax, half-way between softmax and sparsemax (Peters, Niculae and Martins 2019, equation 9).

    .. math:: w_j = \max(x_j / 2 - \tau, 0)^2, \qquad \tau : \sum_j w_j = 1

    Args:
        scores: (..., S) floating point.
        mask: bool, broadcastable to ``scores``, True = attend; a row with nothing to attend gives zeros.
        dim: the dimension that is normalised.

    Returns:
        Weights of the shape and dtype of ``scores``.
    """
    return _project(_Entmax15, scores, mask, dim)


def threshold_reference(scores: Tensor, alpha: float, steps: int = 100) -> Tensor:
    """Both projections over the last dimension by bisection of the threshold, for comparison.

    Args:
        scores: (..., S).
        alpha: 2 for `sparsemax`, 1.5 for `entmax15`.
        steps: halvings of the interval that holds the threshold.
    """
    x = scores * (alpha - 1)
    low, high = x.amax(-1, keepdim=True) - 1, x.amax(-1, keepdim=True)
    for _ in range(steps):
        middle = (low + high) / 2
        too_low = (x - middle).clamp(min=0).pow(1 / (alpha - 1)).sum(-1, keepdim=True) >= 1
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    weights = (x - low).clamp(min=0).pow(1 / (alpha - 1))
    return weights / weights.sum(-1, keepdim=True)


def _project(function: type[torch.autograd.Function], scores: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    x = scores.movedim(dim, -1)
    if x.shape[-1] == 0:
        return scores
    # Thresholds are differences of cumulative sums: half precision would lose them.
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if mask is None:
        weights = function.apply(x)
    else:
        mask = mask.expand_as(scores).movedim(dim, -1)
        # A key below the best by more than 2 is out of reach of either threshold: no infinities are needed.
        best = x.detach().masked_fill(~mask, float("-inf")).amax(-1, keepdim=True)
        best = best.masked_fill(best.isinf(), 0.0)
        weights = function.apply(torch.where(mask, x - best, -4.0)).masked_fill(~mask, 0.0)
    return weights.to(scores.dtype).movedim(-1, dim)


def _gradient(slope: Tensor, grad: Tensor) -> Tensor:
    """Of weights p(x - tau(x)); it is made of them, so that it can be differentiated, too.

    The Jacobian is diag(s) - s sᵀ / sum(s), s the slope of p at the solution.
    """
    grad = grad * slope
    return grad - slope * (grad.sum(-1, keepdim=True) / slope.sum(-1, keepdim=True))


class _Sparsemax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x - x.amax(-1, keepdim=True)
        ordered = x.sort(-1, descending=True).values
        size = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        excess = ordered.cumsum(-1) - 1
        support = (size * ordered > excess).sum(-1, keepdim=True)
        tau = excess.gather(-1, (support - 1).clamp(min=0)) / support  # of what is no number, nothing is in the support
        weights = (x - tau).clamp(min=0)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        return _gradient((weights > 0).to(weights.dtype), grad)


class _Entmax15(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = (x - x.amax(-1, keepdim=True)) / 2
        ordered = x.sort(-1, descending=True).values
        size = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        # With the k best in the support, tau solves a quadratic in their mean and variance.
        mean = ordered.cumsum(-1) / size
        variance = ordered.square().cumsum(-1) / size - mean.square()
        taus = mean - (size.reciprocal() - variance).clamp(min=0).sqrt()
        support = (taus <= ordered).sum(-1, keepdim=True)
        weights = (x - taus.gather(-1, (support - 1).clamp(min=0))).clamp(min=0).square()
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        # d(x/2 - tau)² / dx at fixed tau; a root's own slope has no end at zero.
        return _gradient(torch.where(weights > 0, weights, 1.0).sqrt() * (weights > 0), grad)
