"""Cross entropy of a linear layer, without all of its logits in memory at once."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.ops.derivatives import differentiable_once
from lightning_rnnattn.ops.native import autocast_dtype

IGNORE = -100
"""The target that counts nothing, as in ``torch.nn.functional.cross_entropy``."""

_CHUNK_ELEMENTS = 12_000_000
# Logits per chunk. On a CPU both more and fewer were slower at vocabulary 33,278; recipes/benchmarks/lm.py measures it.


def linear_cross_entropy(
    features: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    r"""Sum over positions of the cross entropy of :math:`W x + b`, in nats.

    .. math:: \sum_n -\log \mathrm{softmax}(W x_n + b)_{y_n}

    Where the logits are many, they are made, used and dropped in chunks, and the gradient is taken in the same pass:
    that saves memory and time, and has no second derivative. Under autocast the products are made in its type; what is
    summed over positions is not. (torch's own ``linear_cross_entropy``, in 2.13, is slower on a CPU: in bfloat16 by a
    factor of three, for it multiplies in float32 there.)

    Args:
        features: (N, D).
        weight: (V, D).
        targets: (N,) int64; `IGNORE` where a position does not count.
        bias: (V,) or None.
        label_smoothing: share of the target's probability that is spread over all classes.

    Returns:
        Scalar, in float32 at least.
    """
    num_chunks = -(-features.shape[0] * weight.shape[0] // _CHUNK_ELEMENTS)
    if num_chunks <= 1:
        return linear_cross_entropy_reference(features, weight, targets, bias, label_smoothing)
    device = features.device.type
    dtype = autocast_dtype(device) or features.dtype
    rows = -(-features.shape[0] // num_chunks)
    if not torch.is_grad_enabled():
        features, weight, bias = features.detach(), weight.detach(), None if bias is None else bias.detach()
    with torch.autocast("cpu" if device == "meta" else device, enabled=False):
        total: Tensor = _Chunked.apply(features, weight, bias, targets, label_smoothing, dtype, rows)
    return total


class _Chunked(torch.autograd.Function):
    """`linear_cross_entropy` of ``rows`` positions at a time, multiplied in ``dtype``; gradients come with the loss."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        label_smoothing: float,
        dtype: torch.dtype,
        rows: int,
    ) -> Tensor:
        narrow_features, narrow_weight = features.to(dtype), weight.to(dtype)
        num_classes = weight.shape[0]
        wide = torch.promote_types(dtype, torch.float32)
        total = features.new_zeros((), dtype=wide)
        grads = [
            torch.zeros_like(x, dtype=wide) if needed and x is not None else None
            for x, needed in zip((features, weight, bias), ctx.needs_input_grad, strict=False)
        ]
        logits_buffer = narrow_features.new_empty(rows, num_classes)
        wide_buffer = logits_buffer if dtype == wide else logits_buffer.new_empty(rows, num_classes, dtype=wide)
        for start in range(0, len(features), rows):
            x, y = narrow_features[start : start + rows], targets[start : start + rows, None]
            logits, probs = logits_buffer[: len(x)], wide_buffer[: len(x)]
            torch.mm(x, narrow_weight.T, out=logits)
            probs.copy_(logits)
            if bias is not None:
                probs += bias
            real = (y != IGNORE).to(wide)
            y = y.clamp(min=0)
            probs -= probs.amax(-1, keepdim=True)
            aim = (1 - label_smoothing) * probs.gather(1, y)  # the logit that the smoothed target expects
            if label_smoothing:
                aim += label_smoothing * probs.mean(-1, keepdim=True)
            norm = probs.exp_().sum(-1, keepdim=True)
            total += ((norm.log() - aim) * real).sum()
            if not any(ctx.needs_input_grad):
                continue
            # The gradient with respect to the logits: probabilities less the (smoothed) target's.
            probs *= real / norm
            if label_smoothing:
                probs -= real * (label_smoothing / num_classes)
            probs.scatter_add_(1, y, (label_smoothing - 1) * real)
            logits.copy_(probs)
            if grads[0] is not None:
                grads[0][start : start + rows] = logits @ narrow_weight
            if grads[1] is not None and dtype == wide:
                grads[1].addmm_(logits.T, x)
            elif grads[1] is not None:
                grads[1] += logits.T @ x
            if grads[2] is not None:
                grads[2].addmv_(probs.T, probs.new_ones(len(x)))  # faster than a sum over rows
        ctx.save_for_backward(features, weight, *grads)  # the inputs for the sake of `differentiable_once`
        return total

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = [None if x is None else x * grad for x in ctx.saved_tensors[2:]]
        return *grads, None, None, None, None


def linear_cross_entropy_reference(
    features: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """`linear_cross_entropy` with all logits at once."""
    logits = F.linear(features, weight, bias)
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORE, label_smoothing=label_smoothing)
