"""Batches from one long stream of tokens, so that a model can carry its state from batch to batch."""

from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_rnnattn.data.epochs import EpochBatches
from lightning_rnnattn.data.streams import TokenArray
from lightning_rnnattn.errors import UserError

_SEED = 7_401  # of the lengths: they are part of what the data are, like its order, not of a run's randomness


class TokenBatch(NamedTuple):
    """Some steps of B streams; row b goes on where row b of the batch before ended.

    Attributes:
        tokens: (B, L) int64, what the model reads.
        targets: (B, L) int64, the token that follows each.
        mask: (B, L) bool, True = the prediction counts; where it is False, tokens and targets are of no meaning.
        is_first: whether the streams begin here, so that no state is carried into the batch.
        documents: for predictions, the name of the document in each row; rows beyond them are empty.
    """

    tokens: Tensor
    targets: Tensor
    mask: Tensor
    is_first: bool
    documents: list[str] | None = None


class TokenBatches(EpochBatches):
    """The batches of a stream of N tokens, for one of ``world_size`` processes; see `EpochBatches`.

    The N - 1 pairs of a token and its successor are cut into R = ``batch_size * world_size`` contiguous rows whose
    lengths differ by at most one, longer rows first, and the rows into chunks of ``seq_len``, or of lengths that vary
    around it (`chunk_lengths`). Process r has the rows from ``r * batch_size`` on. So each pair is visited once in an
    epoch, every process has the same number of batches, and what is masked is at most the last column of the last one.

    Args:
        tokens: (N,) integers; a memory map is read as it is needed.
        batch_size: rows per process.
        seq_len: the columns of a batch.
        seq_len_std: how much they vary: see `chunk_lengths`. Every epoch has the same lengths in an order of its own,
            so that the number of batches stays; all processes have the same order.
        rank: this process.
        world_size: how many processes share the stream.

    Raises:
        UserError: if there are fewer than two tokens.
    """

    def __init__(
        self,
        tokens: TokenArray,
        batch_size: int,
        seq_len: int,
        seq_len_std: float = 0.0,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        if len(tokens) < 2:
            raise UserError(f"the text has {len(tokens)} token(s): at least 2 are needed to predict one from another")
        self.tokens, self.seq_len = tokens, seq_len
        rows = batch_size * world_size
        self._layout = {
            "tokens": len(tokens),
            "rows (batch_size times processes)": rows,
            "seq_len": seq_len,
            "seq_len_std": seq_len_std,
        }
        shortest, longer = divmod(len(tokens) - 1, rows)
        row = np.arange(rank * batch_size, (rank + 1) * batch_size)
        self._starts = row * shortest + np.minimum(row, longer)
        self._lengths = shortest + (row < longer)
        self._steps = shortest + (longer > 0)
        self._chunks = chunk_lengths(self._steps, seq_len, seq_len_std)

    def __len__(self) -> int:
        return len(self._chunks)

    def batches(self, first: int) -> Iterator[TokenBatch]:
        """See `EpochBatches.batches`."""
        for begin, end in pairwise(self._ends()[first:]):
            yield self._batch(begin, end)

    @property
    def layout(self) -> Mapping[str, Any]:
        """See `EpochBatches.layout`."""
        return self._layout

    def _ends(self) -> list[int]:
        """Where the batches of the epoch end, after a zero; what the last one has left stays at the end."""
        order = np.random.default_rng([_SEED, self.epoch()]).permutation(len(self) - 1)
        lengths = [*(self._chunks[i] for i in order), self._chunks[-1]]
        return [0, *accumulate(lengths)]

    def _batch(self, begin: int, end: int) -> TokenBatch:
        column = np.arange(begin, end + 1)
        index = np.minimum(self._starts[:, None] + column, len(self.tokens) - 1)
        window = torch.from_numpy(self.tokens[index].astype(np.int64))
        mask = torch.from_numpy(column[:-1] < self._lengths[:, None])
        return TokenBatch(window[:, :-1].contiguous(), window[:, 1:].contiguous(), mask, is_first=begin == 0)


def chunk_lengths(steps: int, seq_len: int, std: float) -> list[int]:
    r"""How long the pieces are that a stream is read in: all alike, or as for AWD-LSTM (Merity et al. 2018, 4.1).

    .. math:: l \sim \mathcal N(\mu, \sigma), \qquad \mu = s \text{ with probability } 0.95, \text{ else } s / 2

    Lengths are cut off to integers, and are at least 5. So a word is not always at the same distance of a cut.

    Args:
        steps: length of the stream.
        seq_len: s.
        std: σ; 0 for pieces of ``seq_len`` all through.

    Returns:
        Lengths that add up to ``steps``; the last is what is left.
    """
    random = np.random.default_rng(_SEED)
    lengths: list[int] = []
    left = steps
    while left > 0:
        length = seq_len
        if std:
            mean = seq_len if random.random() < 0.95 else seq_len / 2
            length = max(5, int(random.normal(mean, std)))
        lengths.append(min(length, left))
        left -= lengths[-1]
    return lengths
