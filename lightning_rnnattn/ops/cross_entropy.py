"""Cross entropy of a linear layer, without all of its logits in memory at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100
"""The target that counts nothing, as in ``torch.nn.functional.cross_entropy``."""

_CHUNK_ELEMENTS = 12_000_000
# Logits per chunk. On a CPU both more and fewer were slower at vocabulary 33,278; recipes/benchmarks/lm.py measures it.


def linear_cross_entropy(
    features: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    r"""Sum over positions of the cross entropy of :math:`W x + b`, in nats.

    .. math:: \sum_n -\log \mathrm{softmax}(W x_n + b)_{y_n}

    Where the logits are many and torch has ``linear_cross_entropy`` (2.13 and later), they are made, used and dropped
    in chunks, which saves memory and time. That path has no second derivative. Which path is taken depends on shapes
    and the version of torch alone.

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
    if num_chunks <= 1 or not hasattr(F, "linear_cross_entropy"):
        return linear_cross_entropy_reference(features, weight, targets, bias, label_smoothing)
    if torch.is_autocast_enabled(features.device.type):  # the fused function is unknown to autocast
        dtype = torch.get_autocast_dtype(features.device.type)
        features, weight, bias = features.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    half = features.dtype in (torch.float16, torch.bfloat16)
    loss: Tensor = F.linear_cross_entropy(
        features,
        weight,
        targets,
        linear_bias=bias,
        reduction="none" if half else "sum",  # a sum in half precision would round, or overflow
        ignore_index=IGNORE,
        options=torch.nn.LinearCrossEntropyOptions(
            batch_chunk_size=-(-features.shape[0] // num_chunks), chunking_method=None
        ),
    )
    loss = loss.float().sum() if half else loss
    if label_smoothing:
        # The chunked path knows no smoothing. With a share e spread over all classes, the loss is
        # -log p_y + e (logit_y - mean logit).
        classes = targets.clamp(min=0)
        above_mean = ((F.embedding(classes, weight) - weight.mean(0)) * features).sum(-1)
        if bias is not None:
            above_mean = above_mean + bias[classes] - bias.mean()
        loss = loss + label_smoothing * above_mean.masked_fill(targets == IGNORE, 0.0).to(loss.dtype).sum()
    return loss


def linear_cross_entropy_reference(
    features: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """`linear_cross_entropy` with all logits at once."""
    logits = F.linear(features, weight, bias)
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    return F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORE, label_smoothing=label_smoothing)
