"""What finds texts asks of a model, and gives back.

Letters: B sentences, K hypotheses of a sentence, S source time, T target time, V vocabulary.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.spec import Described


class DecoderCache(Protocol):
    """What a model carries from step to step: a state for each hypothesis, and one memory for each sentence."""

    def select(self, hypotheses: Tensor) -> Self:
        """New hypotheses, each of which goes on from an old one; the memory is neither copied nor gathered.

        Args:
            hypotheses: (B, K') int64, the old hypothesis of the same sentence.
        """

    def keep(self, sentences: Tensor) -> Self:
        """Some of the sentences, with their memory.

        Args:
            sentences: (B',) int64.
        """


class DecoderModel(Protocol):
    """What a search asks of a model: explicit steps, whose state is passed in and out."""

    def start(self, source: Tensor, lengths: Tensor) -> Any:
        """Reads sources (B, S) of lengths (B,), on the CPU; a `DecoderCache` with one hypothesis for each."""

    def decode_step(self, tokens: Tensor, cache: Any, need_weights: bool = False) -> tuple[Tensor, Any, Tensor | None]:
        """Reads one more token (B, K) of each hypothesis.

        Returns:
            Logits (B, K, V) of the next token; the next cache; the attention's weights (B, K, S), if wanted.
        """


class Hypothesis(NamedTuple):
    """A text that a search found.

    Attributes:
        tokens: its ids, without the end.
        score: what the search ranks by; higher is better.
        log_prob: of the text and its end, given the source, in nats.
        weights: (T, S) the source position that each token attended to; None where not wanted.
    """

    tokens: list[int]
    score: float
    log_prob: float
    weights: Tensor | None


@dataclass(frozen=True)
class Search(Described):
    """A way to find texts that a model gives to sources.

    A search of your own is a frozen dataclass that derives from this class; its fields are the options in YAML.
    `lightning_rnnattn.decoding.steps.run` is the loop that the package's own share.

    Attributes:
        max_length: tokens of a text at most, the end not counted; one as long as that is ended.
        max_ratio: the same, as a multiple of the source's length (its end counted); None for no such limit.
        min_length: tokens of a text at least, where ``max_ratio`` allows as many.
        no_repeat_ngram: n, where no n tokens in a row may come twice in a text; None to let them.
    """

    max_length: int = 200
    max_ratio: float | None = None
    min_length: int = 0
    no_repeat_ngram: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_length <= self.max_length:
            raise UserError(f"min_length={self.min_length} must lie between 0 and max_length={self.max_length}")
        if self.max_ratio is not None and not self.max_ratio > 0:  # nan, too
            raise UserError(f"max_ratio={self.max_ratio}: must be above 0; null for no limit")
        if self.no_repeat_ngram is not None and self.no_repeat_ngram < 1:
            raise UserError(f"no_repeat_ngram={self.no_repeat_ngram}: must be at least 1; null to allow repetition")

    @abstractmethod
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
        """The texts of several sources at once; each comes out as if it were alone.

        Args:
            model: in whatever mode; it is put into evaluation mode meanwhile.
            source: (B, S) int64 ids, or (B, S, F) features.
            lengths: (B,) int64, on the CPU.
            bos_id: the token that a text begins with; it is no part of it.
            eos_id: the token that ends a text; it is no part of it.
            need_weights: also return the attention's weights.

        Returns:
            For each source its hypotheses, the best first; at least one.
        """

    def longest(self, lengths: Tensor) -> Tensor:
        """(B,) tokens that the text of each source may have at most."""
        if self.max_ratio is None or math.isinf(self.max_ratio):
            return torch.full_like(lengths, self.max_length)
        return (lengths * self.max_ratio).ceil().clamp(max=self.max_length).long()
