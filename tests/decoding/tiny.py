"""A small model that can be searched: an encoder, additive attention, a recurrent decoder with input feeding."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnnattn import GRU, AdditiveScore, Attention, Elman
from lightning_rnnattn.layers.attention import Memory
from lightning_rnnattn.ops.masks import lengths_mask

SIZE = 6
BOS, EOS = 1, 2


class Cache(NamedTuple):
    state: Tensor  # (B, K, D)
    memory: Memory
    step: int

    def select(self, hypotheses: Tensor) -> "Cache":
        index = hypotheses.unsqueeze(-1).expand(-1, -1, self.state.shape[-1])
        return self._replace(state=self.state.gather(1, index))

    def keep(self, sentences: Tensor) -> "Cache":
        key, value, mask = self.memory
        key = type(key)(*(part[sentences] for part in key))
        return Cache(self.state[sentences], Memory(key, value[sentences], mask[sentences]), self.step)


class TinyModel(nn.Module):
    """A `DecoderModel`; ``memories`` has the shape and the place of the memory at each step."""

    def __init__(self, vocab_size: int, spread: float = 1.0) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(12, SIZE)
        self.embedding = nn.Embedding(vocab_size, SIZE)
        self.encoder = GRU(SIZE, SIZE)
        self.attention = Attention(SIZE, SIZE, score=AdditiveScore)
        self.rnn = Elman(2 * SIZE, SIZE)
        self.output = nn.Linear(SIZE, vocab_size)
        self.dropout = nn.Dropout(0.5)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=spread)
        self.memories: list[tuple[tuple[int, ...], int]] = []

    def start(self, source: Tensor, lengths: Tensor) -> Cache:
        encoded, state = self.encoder(self.source_embedding(source), lengths=lengths)
        mask = lengths_mask(lengths, source.shape[1])
        return Cache(state.transpose(0, 1), self.attention.memory(encoded, mask=mask), 0)

    def decode_step(
        self, tokens: Tensor, cache: Cache, need_weights: bool = False
    ) -> tuple[Tensor, Cache, Tensor | None]:
        self.memories.append((tuple(cache.memory.value.shape), cache.memory.value.data_ptr()))
        batch, width = tokens.shape
        context, weights = self.attention(cache.state, cache.memory, need_weights=need_weights)
        inputs = torch.cat([self.embedding(tokens), context], -1).view(batch * width, 1, -1)
        hidden, state = self.rnn(inputs, cache.state.reshape(1, batch * width, -1))
        logits = self.output(self.dropout(hidden)).view(batch, width, -1)
        logits[..., EOS] += cache.step / 2 - 1  # texts become likelier to end
        weights = None if weights is None else weights.mean(1)
        return logits, Cache(state.view(batch, width, -1), cache.memory, cache.step + 1), weights

    def log_prob(self, source: Tensor, tokens: list[int]) -> tuple[float, Tensor]:
        """Teacher-forced, of a text and its end, and the weights (T + 1, S); one step at a time, alone."""
        cache, total, seen = self.start(source[None], torch.tensor([len(source)])), 0.0, []
        for given, wanted in zip([BOS, *tokens], [*tokens, EOS], strict=True):
            logits, cache, weights = self.decode_step(torch.tensor([[given]]), cache, True)
            total += logits[0, 0].double().log_softmax(-1)[wanted].item()
            seen.append(weights[0, 0])
        return total, torch.stack(seen)


def sources(count: int = 7, longest: int = 6) -> tuple[Tensor, Tensor]:
    """Padded sources of different lengths, not sorted."""
    lengths = torch.randint(1, longest + 1, (count,))
    lengths[count // 2] = longest
    source = torch.randint(1, 12, (count, longest)) * lengths_mask(lengths, longest)
    return source, lengths
