"""Sampling."""

from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from lightning_rnnattn.decoding.generate import check_sampling, choose
from lightning_rnnattn.decoding.search import DecoderModel, Hypothesis, Search
from lightning_rnnattn.decoding.steps import follow, run
from lightning_rnnattn.decoding.texts import Continuation, Scores, Texts
from lightning_rnnattn.errors import UserError


@dataclass(frozen=True)
class Sampling(Search):
    """Draws each token from the model's distribution; the score is the log-probability under the model as it is.

    Each text draws from a random stream of its own, which the seed, the source and the number of the draw decide: its
    companions in the batch, the order of sources and the global generator play no part.

    For the other options see `Search`.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token each time.
        top_k: see `lightning_rnnattn.decoding.filters.keep_top_k`; None for all.
        top_p: see `lightning_rnnattn.decoding.filters.keep_top_p`; None for all.
        nbest: texts that are drawn for each source.
        seed: of the random streams.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    nbest: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampling(self.temperature, self.top_k, self.top_p)
        if self.nbest < 1:
            raise UserError(f"nbest={self.nbest}: must be at least 1")

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
        """See `Search.search`; the draws of each source, the most likely first."""
        uniform = self._uniform(source, lengths).to(source.device)

        def extend(texts: Texts, scores: Scores) -> Continuation:
            draws = uniform[texts.sentences.to(uniform.device), :, texts.tokens.shape[2]].flatten()
            tokens = choose(scores.logits.flatten(0, 1), draws, self.temperature, self.top_k, self.top_p)
            return follow(texts, scores, tokens.view_as(texts.ended), eos_id)

        return run(
            model,
            source,
            lengths,
            self,
            extend,
            bos_id=bos_id,
            eos_id=eos_id,
            need_weights=need_weights,
            width=self.nbest,
            nbest=self.nbest,
        )

    def _uniform(self, source: Tensor, lengths: Tensor) -> Tensor:
        """(B, nbest, T) numbers in [0, 1) that decide the draws."""
        steps = int(self.longest(lengths).max()) + 1
        rows = []
        for row, length in zip(source.cpu(), lengths.tolist(), strict=True):
            content = row[:length].contiguous().view(torch.uint8).numpy().tobytes()
            for number in range(self.nbest):
                seed = blake2b(f"{self.seed} {number} ".encode() + content, digest_size=8).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(seed) >> 1)
                rows.append(torch.rand(steps, generator=generator, dtype=torch.float64))
        return torch.stack(rows).unflatten(0, (-1, self.nbest))
