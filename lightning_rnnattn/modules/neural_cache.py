"""A language model's memory of the words that it has read lately.

Letters: B batch, T time, P entries from before, D features.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.neural_cache import cache_log_probs
from lightning_rnnattn.spec import Described


class CacheEntries(NamedTuple):
    """What was read lately, the newest last.

    Attributes:
        features: (B, P, D) what predicted each word.
        words: (B, P) int64, the words.
        mask: (B, P) bool, True where there was a word.
    """

    features: Tensor
    words: Tensor
    mask: Tensor


@dataclass(frozen=True)
class NeuralCache(Described):
    r"""Words that came lately come again: a cache beside the model's own prediction (Grave et al. 2017, equation 5).

    .. math::
        p(w) = (1 - \lambda)\, p_{\text{model}}(w) + \lambda\, p_{\text{cache}}(w), \qquad
        p_{\text{cache}}(w) \propto \sum_{t - n \le i < t} \mathbb 1[x_{i+1} = w] \exp(\theta\, h_t^\top h_i)

    It needs no training, and takes part in validation, test and prediction only. At a text's first word, where it is
    empty, the model's prediction counts alone. Each row of a batch is a text with a cache of its own.

    Args:
        size: n, the words that it holds.
        theta: θ, how sharply it prefers similar moments.
        share: λ, its share of the prediction.
    """

    size: int = 2000
    theta: float = 0.662
    share: float = 0.128

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"cache.size={self.size}: must be at least 1")
        if not 0.0 < self.share < 1.0:
            raise UserError(f"cache.share={self.share}: must lie in (0, 1); cache: null is none")

    def mix(
        self, log_probs: Tensor, features: Tensor, targets: Tensor, mask: Tensor, entries: CacheEntries | None
    ) -> tuple[Tensor, CacheEntries]:
        """Corrects the model's prediction of a piece of text.

        Args:
            log_probs: (B, T) of the targets, by the model.
            features: (B, T, D) what the model's output layer reads.
            targets: (B, T) int64.
            mask: (B, T) bool, True where there is a target.
            entries: what the piece before returned; None at the start of a text.

        Returns:
            (B, T) log-probabilities, and the entries for the next piece.
        """
        features = features.to(log_probs)  # half precision would be too coarse for the scores
        new = CacheEntries(features, targets, mask)
        if entries is not None:
            new = CacheEntries(*(torch.cat(pair, dim=1) for pair in zip(entries, new, strict=True)))
        place = torch.arange(new.words.shape[1], device=targets.device)
        now = place[-targets.shape[1] :, None]
        usable = new.mask[:, None, :] & (place < now) & (place >= now - self.size)
        cached = cache_log_probs(features, new.features, new.words, targets, usable, self.theta)
        mixed = torch.logaddexp(log_probs + math.log1p(-self.share), cached + math.log(self.share))
        entries = CacheEntries(*(x[:, -self.size :] for x in new))
        return torch.where(usable.any(-1), mixed, log_probs), entries
