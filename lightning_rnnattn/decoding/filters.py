"""What sampling leaves out: each function maps logits (..., V) to logits with the unlikely set to minus infinity."""

import torch
from torch import Tensor


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Keeps the k most likely tokens (Fan et al. 2018), and those that tie with the last of them.

    Args:
        logits: (..., V).
        k: at least 1; more than V keeps all.
    """
    kth = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < kth, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keeps the fewest most likely tokens whose probabilities sum to at least p (Holtzman et al. 2020, equation 3).

    Args:
        logits: (..., V).
        p: in (0, 1]; the most likely token always stays.
    """
    ordered, index = logits.sort(descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    ordered = ordered.masked_fill(before >= p, float("-inf"))
    return torch.empty_like(logits).scatter(-1, index, ordered)
