"""What a sequence-to-sequence model carries from token to token.

Letters: B batch, K hypotheses of a sentence.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.layers import DecoderState, Memory


class Seq2SeqCache(NamedTuple):
    """What a search carries from token to token.

    Attributes:
        state: of each hypothesis.
        memory: of each sentence; its hypotheses share it.
    """

    state: DecoderState
    memory: Memory

    def select(self, hypotheses: Tensor) -> "Seq2SeqCache":
        """New hypotheses, each of which goes on from an old one (B, K') of its sentence; the memory stays as it is."""
        rows = torch.arange(len(hypotheses), device=hypotheses.device).unsqueeze(-1)
        picks = {0: (rows, hypotheses), 1: (slice(None), rows, hypotheses)}
        return self._replace(state=self.state.map(lambda x, dim: x[picks[dim]]))

    def keep(self, sentences: Tensor) -> "Seq2SeqCache":
        """Some of the sentences, (B',), with their memory."""
        return Seq2SeqCache(
            self.state.map(lambda x, dim: x.index_select(dim, sentences)), self.memory.sentences(sentences)
        )
