"""Beam search, batched over sentences and hypotheses.

Letters: B sentences, K hypotheses of a sentence, S source time, T target time, V vocabulary.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.decoding.search import DecoderModel, Hypothesis, Search
from lightning_rnnattn.decoding.steps import run
from lightning_rnnattn.decoding.texts import Continuation, Scores, Texts
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.masks import lengths_mask

_UNSEEN = 1e-6
"""What counts as the attention on a source position that had none: sparse weights may leave some out."""


@dataclass(frozen=True)
class BeamSearch(Search):
    r"""Goes on with the K most likely texts of each sentence, side by side.

    A text that ends keeps its place among the K, so that the beam narrows (as in Bahdanau et al. 2015); one of width 1
    is the greedy search. Texts that end compete by the score of Wu et al. (2016), equation 14:

    .. math::
        s(Y, X) = \frac{\log P(Y \mid X)}{lp(Y)} + cp(X, Y), \qquad
        lp(Y) = \frac{(5 + |Y|)^\alpha}{(5 + 1)^\alpha}, \qquad
        cp(X, Y) = \beta \sum_i \log \min\Bigl(\sum_j p_{ij}, 1\Bigr)

    where Y counts its end, and p_ij is what the j-th token attends to source position i. The search of a sentence stops
    when no text that goes on could come among the ``nbest``: it gives what it would give without that.

    For the other options see `Search`.

    Attributes:
        beam_size: K.
        nbest: hypotheses for each source, at most K.
        length_penalty: α (0.6 is that of Vaswani et al. 2017); 0 ranks by log-probability, which favours short texts.
        coverage_penalty: β; above 0, the model must have attention.
    """

    beam_size: int = 5
    nbest: int = 1
    length_penalty: float = 0.6
    coverage_penalty: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam_size < 1:
            raise UserError(f"beam_size={self.beam_size}: must be at least 1")
        if not 1 <= self.nbest <= self.beam_size:
            raise UserError(f"nbest={self.nbest} must lie between 1 and beam_size={self.beam_size}")
        for name in ("length_penalty", "coverage_penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name}={getattr(self, name)}: must be a number that is not negative")

    def search(
        self,
        model: DecoderModel,
        source: Tensor,
        lengths: Tensor,
        *,
        bos_id: int,
        eos_id: int,
        need_weights: bool = False,
    ) -> list[list[Hypothesis]]:
        """See `Search.search`; up to ``nbest`` hypotheses for each source."""
        real = lengths_mask(lengths, source.shape[1]).to(source.device)
        found = run(
            model,
            source,
            lengths,
            self,
            partial(widen, beam_size=self.beam_size, eos_id=eos_id),
            bos_id=bos_id,
            eos_id=eos_id,
            need_weights=need_weights or self.coverage_penalty > 0,
            nbest=self.nbest,
            rank=partial(self._rank, real=real),
            settled=partial(self._settled, real=real),
        )
        return found if need_weights else [[best._replace(weights=None) for best in nbest] for nbest in found]

    def _rank(self, texts: Texts, real: Tensor) -> Tensor:
        """Scores (B, K); ``real`` (B, S) marks the positions of all sources that are no padding."""
        scores = texts.log_probs / self._length_penalty(texts.lengths)
        if self.coverage_penalty == 0 or texts.weights is None:
            return scores
        attended = texts.weights.sum(2).clamp(_UNSEEN, 1.0).log()  # (B, K, S)
        attended = attended.masked_fill(~real[texts.sentences.to(real.device)].unsqueeze(1), 0.0)
        return scores + self.coverage_penalty * attended.sum(-1)

    def _settled(self, texts: Texts, real: Tensor) -> Tensor:
        """(B,) bool, whether the nbest-th score is out of reach of every text that goes on.

        With each token a text's log-probability falls or stays, and it is at most 0; lp grows with the length, since
        α >= 0, and is largest for the longest text and its end; and cp is at most 0. So whatever a text of
        log-probability p goes on with, its score is at most p / lp(longest + 1).
        """
        scores = self._rank(texts, real).masked_fill(~texts.ended, float("-inf"))
        missing = max(0, self.nbest - scores.shape[1])
        worst = F.pad(scores, (0, missing), value=float("-inf")).topk(self.nbest).values[:, -1]
        going_on = texts.log_probs.masked_fill(texts.ended, float("-inf")).amax(-1)
        return worst >= going_on / self._length_penalty(texts.longest + 1)

    def _length_penalty(self, lengths: Tensor) -> Tensor:
        return ((5.0 + lengths) / 6.0) ** self.length_penalty


def widen(texts: Texts, scores: Scores, beam_size: int, eos_id: int) -> Continuation:
    """The most likely continuations of each sentence's texts, the best first, after those that have ended.

    Args:
        texts: K' of them for each sentence.
        scores: of their next tokens.
        beam_size: K, how many to keep at most.
        eos_id: the token that ends a text.
    """
    gained, tokens = scores.best(min(beam_size, scores.logits.shape[-1]))  # (B, K', k)
    # A text that has ended goes on as itself, at the first of its places only.
    itself = torch.arange(gained.shape[-1], device=gained.device) == 0
    ended = texts.ended.unsqueeze(-1)
    gained = torch.where(ended, torch.where(itself, 0.0, float("-inf")), gained)
    tokens = tokens.masked_fill(ended, eos_id)
    totals = texts.log_probs.unsqueeze(-1) + gained
    order = totals.masked_fill(ended & itself, float("inf")).flatten(1)
    places = order.topk(min(beam_size, order.shape[1])).indices
    return Continuation(
        parents=places // gained.shape[-1],
        tokens=tokens.flatten(1).gather(1, places),
        log_probs=totals.flatten(1).gather(1, places),
    )
