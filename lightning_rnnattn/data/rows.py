"""Lines as rows of token ids: encoded once to a file that is mapped into memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from lightning_rnnattn.data.corpus import Corpus
from lightning_rnnattn.data.padded import Padded
from lightning_rnnattn.data.streams import TokenArray, token_array
from lightning_rnnattn.tokenizers import Tokenizer


class Rows:
    """N rows of ids, each with the end of its line, one behind the other in an array.

    Args:
        ids: the array.
        starts: (N,) where each row begins.
        lengths: (N,) how long it is.
    """

    def __init__(self, ids: TokenArray, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> None:
        self._ids, self._starts, self.lengths = ids, starts, lengths

    @classmethod
    def of(cls, corpus: Corpus, tokenizer: Tokenizer, cache_dir: Path) -> "Rows":
        """A row for each line of a corpus, from the cache where the same was encoded before.

        Raises:
            UserError: if the text cannot be read, or has what the tokenizer does not know: with file and line.
        """
        end = tokenizer.eos_id
        assert end is not None, "whoever trains a tokenizer for rows sees to that"
        ids = token_array(corpus, tokenizer, cache_dir, end)
        stops = np.flatnonzero(ids == end) + 1
        starts = np.concatenate([[0], stops[:-1]])
        return cls(ids, starts, stops - starts)

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, indices: npt.NDArray[np.int64]) -> "Rows":
        """Some of the rows."""
        return Rows(self._ids, self._starts[indices], self.lengths[indices])

    def padded(self, indices: Sequence[int]) -> Padded:
        """Some of the rows, side by side."""
        lengths = self.lengths[list(indices)]
        column = np.arange(lengths.max())
        places = np.minimum(self._starts[list(indices), None] + column, len(self._ids) - 1)
        ids = np.where(column < lengths[:, None], self._ids[places], 0).astype(np.int64)
        return Padded(torch.from_numpy(ids), torch.from_numpy(lengths))
