"""The texts of a search, and what they may go on with.

Letters: B sentences, K hypotheses of a sentence, S source time, T target time, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.ops.topk import top_k


class Continuation(NamedTuple):
    """One more token of each text.

    Attributes:
        parents: (B, K') the text that each goes on from; None where all keep their places.
        tokens: (B, K').
        log_probs: (B, K') of the texts with their new tokens.
    """

    parents: Tensor | None
    tokens: Tensor
    log_probs: Tensor


class Scores(NamedTuple):
    """What texts may go on with.

    Attributes:
        logits: (B, K, V) of the next tokens, minus infinity for those that are not allowed.
        totals: (B, K), so that the log-probability of a token is its logit less the total.
    """

    logits: Tensor
    totals: Tensor

    def best(self, k: int) -> tuple[Tensor, Tensor]:
        """The log-probabilities and ids (B, K, k) of each text's k most likely tokens, the most likely first."""
        values, tokens = top_k(self.logits, k)
        return values - self.totals.unsqueeze(-1), tokens

    def log_probs(self, tokens: Tensor) -> Tensor:
        """The log-probabilities (B, K) of a token (B, K) for each text."""
        return self.logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - self.totals


class Texts(NamedTuple):
    """The hypotheses of sentences so far.

    Attributes:
        tokens: (B, K, T) ids, the end included, and repeated after a text's end.
        log_probs: (B, K) in nats; minus infinity at a place that no text has taken.
        lengths: (B, K) tokens of each text, its end counted.
        ended: (B, K) bool.
        weights: (B, K, T, S) the attention's, zero after a text's end; None where they are not wanted.
        longest: (B,) tokens that a text may have at most, the end not counted.
        sentences: (B,) the place of each sentence in the batch that came in; on the CPU.
    """

    tokens: Tensor
    log_probs: Tensor
    lengths: Tensor
    ended: Tensor
    weights: Tensor | None
    longest: Tensor
    sentences: Tensor

    def extend(self, new: Continuation, weights: Tensor | None, eos_id: int) -> "Texts":
        """Each text with one more token.

        Args:
            new: from the function that chooses.
            weights: (B, K, S) the attention's, for the texts before.
            eos_id: the token that ends a text.
        """
        old = self if new.parents is None else self._take(new.parents)
        history = old.weights
        if history is not None and weights is not None:
            weights = weights if new.parents is None else take(weights, new.parents)
            weights = weights.masked_fill(old.ended.unsqueeze(-1), 0.0)
            history = torch.cat([history, weights.unsqueeze(2)], dim=2)
        return old._replace(
            tokens=torch.cat([old.tokens, new.tokens.unsqueeze(2)], dim=2),
            log_probs=new.log_probs,
            lengths=old.lengths + ~old.ended,
            ended=(new.tokens == eos_id) & (new.log_probs > float("-inf")),
            weights=history,
        )

    def keep(self, rows: Tensor) -> "Texts":
        """Some of the sentences."""
        return Texts(
            tokens=self.tokens[rows],
            log_probs=self.log_probs[rows],
            lengths=self.lengths[rows],
            ended=self.ended[rows],
            weights=None if self.weights is None else self.weights[rows],
            longest=self.longest[rows],
            sentences=self.sentences[rows.cpu()],
        )

    def _take(self, parents: Tensor) -> "Texts":
        return self._replace(
            tokens=take(self.tokens, parents),
            log_probs=take(self.log_probs, parents),
            lengths=take(self.lengths, parents),
            ended=take(self.ended, parents),
            weights=None if self.weights is None else take(self.weights, parents),
        )


def take(x: Tensor, index: Tensor) -> Tensor:
    """(B, K, ...) at places (B, K') to (B, K', ...)."""
    return x[torch.arange(len(x), device=x.device).unsqueeze(-1), index]
