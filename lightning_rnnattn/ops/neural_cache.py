"""Probabilities of words from what was read lately.

Letters: B batch, T time, S entries of the cache, D features.
"""

import torch
from torch import Tensor


def cache_log_probs(query: Tensor, key: Tensor, words: Tensor, targets: Tensor, mask: Tensor, theta: float) -> Tensor:
    r"""Log-probability of words by a neural cache (Grave et al. 2017, equation 2).

    .. math:: p(w \mid h_t) \propto \sum_s \mathbb 1[x_s = w] \exp(\theta\, h_t^\top h_s)

    Args:
        query: (B, T, D) features that predict.
        key: (B, S, D) earlier features.
        words: (B, S) int64, the word that followed each of them.
        targets: (B, T) int64, the words to judge.
        mask: (B, T, S) bool, True for the entries that a step may use.
        theta: how sharp the distribution is.

    Returns:
        (B, T); minus infinity where no entry that may be used has the word.
    """
    with torch.autocast(query.device.type, enabled=False):  # half precision would be too coarse for what is in exp
        scores = theta * query @ key.transpose(1, 2)
    log_weights = scores.masked_fill(~mask, -torch.inf).log_softmax(-1)
    same = (words.unsqueeze(1) == targets.unsqueeze(2)) & mask
    return log_weights.masked_fill(~same, -torch.inf).logsumexp(-1)
