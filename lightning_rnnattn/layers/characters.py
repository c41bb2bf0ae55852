"""Words read character by character.

Letters: B batch, T words, C characters of a word, D features, W real words.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import require_positive, require_probability
from lightning_rnnattn.layers.kernels import LSTM
from lightning_rnnattn.layers.pooling import AttentionPooling, PoolingFactory
from lightning_rnnattn.layers.rnn import RNNFactory
from lightning_rnnattn.ops.masks import lengths_mask


class CharacterEncoder(nn.Module):
    r"""A vector for each word from its characters: a recurrent network over them, pooled.

    .. math:: x_w = \mathrm{pooling}(\mathrm{RNN}(E c_1, …, E c_n))

    A word that the vocabulary of words lacks, a misspelt one say, still has its characters (Ling et al. 2015; with
    attention over them Rei et al. 2016). Only real words and characters are run over.

    Args:
        num_characters: size of the vocabulary of characters.
        embedding_size: features of a character's embedding.
        rnn: makes the recurrent network from its input size; a bidirectional LSTM of 64 units each way where None.
        pooling: makes the layer from the network's outputs to one vector, from their size and its directions.
        dropout: probability of dropping a feature of an embedding, in training.

    Attributes:
        output_size: features of an output.

    Shapes:
        characters (B, T, C) int64, character_lengths (B, T); result (B, T, output_size), zeros for words without
        characters.

    Raises:
        UserError: if a size or a probability is out of range.
    """

    def __init__(
        self,
        num_characters: int,
        embedding_size: int = 32,
        *,
        rnn: RNNFactory | None = None,
        pooling: PoolingFactory = AttentionPooling,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_positive(self, num_characters=num_characters, embedding_size=embedding_size)
        require_probability(dropout=dropout)
        self.embedding = nn.Embedding(num_characters, embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.dropout = nn.Dropout(dropout)
        self.rnn = LSTM(embedding_size, 64, bidirectional=True) if rnn is None else rnn(embedding_size)
        self.pooling = pooling(self.rnn.output_size, self.rnn.directions)
        self.output_size: int = self.pooling.output_size

    def forward(self, characters: Tensor, character_lengths: Tensor) -> Tensor:
        """Words (B, T, C), of as many characters each as the lengths (B, T) say, to (B, T, output_size)."""
        batch, num_words, _ = characters.shape
        lengths = character_lengths.flatten().cpu()
        # Without any word, one that is empty keeps the graph, and with it every rank of a parallel run, in step.
        real = lengths.nonzero().squeeze(-1) if lengths.any() else torch.zeros(1, dtype=torch.int64)
        place = real.to(characters.device)
        words, lengths = characters.flatten(0, 1)[place], lengths[real]
        states, _ = self.rnn(self.dropout(self.embedding(words)), None, lengths)
        mask = lengths_mask(lengths, words.shape[1]).to(states.device)
        pooled, _ = self.pooling(states, mask)
        result = pooled.new_zeros(batch * num_words, pooled.shape[-1]).index_copy(0, place, pooled)
        return result.unflatten(0, (batch, num_words))


CharacterFactory = Callable[[int], CharacterEncoder]
"""Makes a character encoder from num_characters: a class, or a ``functools.partial`` of one."""
