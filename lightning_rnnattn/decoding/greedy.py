"""Greedy search."""

from dataclasses import dataclass

from torch import Tensor

from lightning_rnnattn.decoding.search import DecoderModel, Hypothesis, Search
from lightning_rnnattn.decoding.steps import follow, run
from lightning_rnnattn.decoding.texts import Continuation, Scores, Texts


@dataclass(frozen=True)
class Greedy(Search):
    """Takes the most likely token each time; the score is the log-probability.

    For the options see `Search`.
    """

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
        """See `Search.search`; one hypothesis for each source."""

        def extend(texts: Texts, scores: Scores) -> Continuation:
            return follow(texts, scores, scores.best(1)[1].squeeze(-1), eos_id)

        return run(model, source, lengths, self, extend, bos_id=bos_id, eos_id=eos_id, need_weights=need_weights)
