"""Batches from one long stream of tokens, so that a model can carry its state from batch to batch."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_rnnattn.data.streams import TokenArray
from lightning_rnnattn.errors import UserError


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


class TokenBatches:
    """The batches of a stream of N tokens, for one of ``world_size`` processes.

    The N - 1 pairs of a token and its successor are cut into R = ``batch_size * world_size`` contiguous rows whose
    lengths differ by at most one, longer rows first, and the rows into chunks of ``seq_len``. Process r has the rows
    from ``r * batch_size`` on. So each pair is visited once in an epoch, every process has the same number of batches,
    and what is masked is at most the last column of the last one.

    It is iterated once per epoch. :meth:`state_dict` is the place within the epoch, counted in batches *given out*;
    Lightning saves it in checkpoints and goes on from there. (A torch DataLoader would add nothing but copies between
    processes to the slicing of a memory map, and Lightning would change its sampler.)

    Args:
        tokens: (N,) integers; a memory map is read as it is needed.
        batch_size: rows per process.
        seq_len: the most columns of a batch.
        rank: this process.
        world_size: how many processes share the stream.

    Attributes:
        epoch_batches: how many batches are taken in an epoch where it is cut short (``limit_train_batches``), or None:
            a state saved there begins the next epoch.

    Raises:
        UserError: if there are fewer than two tokens.
    """

    def __init__(
        self,
        tokens: TokenArray,
        batch_size: int,
        seq_len: int,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(tokens) < 2:
            raise UserError(f"the text has {len(tokens)} token(s): at least 2 are needed to predict one from another")
        self.tokens, self.seq_len = tokens, seq_len
        rows = batch_size * world_size
        self._layout = [len(tokens), rows, seq_len]
        shortest, longer = divmod(len(tokens) - 1, rows)
        row = np.arange(rank * batch_size, (rank + 1) * batch_size)
        self._starts = row * shortest + np.minimum(row, longer)
        self._lengths = shortest + (row < longer)
        self._steps = shortest + (longer > 0)
        self.epoch_batches: int | None = None
        self._resumed = 0
        self._position = 0

    def __len__(self) -> int:
        return math.ceil(self._steps / self.seq_len)

    def __iter__(self) -> Iterator[TokenBatch]:
        # A generator: what was loaded is used up by the first batch asked for, however many iterators are made before.
        first, self._resumed = self._resumed, 0
        for position in range(first, len(self)):
            self._position = position + 1
            yield self._batch(position)

    def state_dict(self) -> dict[str, Any]:
        """The place within the epoch, and the layout that it refers to."""
        end = min(len(self), self.epoch_batches or len(self))
        return {"position": self._position % end, "layout": self._layout}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next epoch begin where :meth:`state_dict` was taken.

        Raises:
            UserError: if that was in the middle of an epoch over other streams.
        """
        position = state["position"]
        if position and state["layout"] != self._layout:
            names = ("tokens", "rows (batch_size times processes)", "seq_len")
            was, now = (
                ", ".join(f"{value} {name}" for name, value in zip(names, layout, strict=True))
                for layout in (state["layout"], self._layout)
            )
            raise UserError(
                f"the checkpoint is from the middle of an epoch (batch {position}) over {was}; now there are {now}:"
                " resume with the same, or from a checkpoint of an epoch's end"
            )
        self._resumed = self._position = position

    def _batch(self, position: int) -> TokenBatch:
        begin = position * self.seq_len
        column = np.arange(begin, min(begin + self.seq_len, self._steps) + 1)
        index = np.minimum(self._starts[:, None] + column, len(self.tokens) - 1)
        window = torch.from_numpy(self.tokens[index].astype(np.int64))
        mask = torch.from_numpy(column[:-1] < self._lengths[:, None])
        return TokenBatch(window[:, :-1].contiguous(), window[:, 1:].contiguous(), mask, is_first=position == 0)
