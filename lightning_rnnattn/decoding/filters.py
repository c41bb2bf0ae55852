"""What decoding leaves out: each function maps logits (..., V) to logits with some set to minus infinity."""

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


def block_repeats(logits: Tensor, tokens: Tensor, n: int) -> Tensor:
    """Leaves out the tokens with which n in a row would come a second time in a text (Paulus et al. 2018).

    Args:
        logits: (..., V).
        tokens: (..., T) the texts so far.
        n: at least 1.
    """
    if tokens.shape[-1] < n:
        return logits
    runs = tokens.unfold(-1, n, 1)  # (..., T - n + 1, n)
    begun = tokens[..., tokens.shape[-1] - n + 1 :].unsqueeze(-2)
    repeats = (runs[..., :-1] == begun).all(-1)
    # Added rather than set, since a token that ends several runs must go if it repeats one of them.
    penalty = torch.zeros_like(repeats, dtype=logits.dtype).masked_fill(repeats, float("-inf"))
    return logits.scatter_add(-1, runs[..., -1], penalty)
