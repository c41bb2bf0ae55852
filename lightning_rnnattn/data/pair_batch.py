"""Batches of pairs: a source, and the target that it is to become."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_rnnattn.data.padded import Padded
from lightning_rnnattn.data.rows import Rows


class PairText(NamedTuple):
    """A pair as text.

    Attributes:
        source: what is read.
        references: what is right, any of them; none where it is not known.
    """

    source: str
    references: tuple[str, ...]


class PairBatch(NamedTuple):
    """Some pairs.

    Attributes:
        source: (B, S) ids, the end of the line included.
        target: (B, T) ids of the first reference, the end of the line included; None where there are none.
        counts: (B,) bool; False where a row only keeps this process in step with the others.
        indices: the number of each pair in its split, from 0.
        texts: the pairs as text, where they are not trained on.
    """

    source: Padded
    target: Padded | None
    counts: Tensor
    indices: tuple[int, ...]
    texts: tuple[PairText, ...] | None


class PairExamples:
    """The pairs of a split, encoded; batches have like source lengths, and among those like target lengths.

    Args:
        source: the ids of each source.
        target: the ids of each target, or None.
        texts: each pair as text, where batches are to have it.
    """

    def __init__(self, source: Rows, target: Rows | None, texts: Sequence[PairText] | None) -> None:
        self._source, self._target, self._texts = source, target, texts
        sides = [source] if target is None else [source, target]
        self.lengths = np.stack([side.lengths for side in sides], axis=1)

    def collate(self, indices: Sequence[int], counts: bool) -> PairBatch:
        """See `Examples.collate`."""
        return PairBatch(
            self._source.padded(indices),
            None if self._target is None else self._target.padded(indices),
            torch.full((len(indices),), counts),
            tuple(indices),
            None if self._texts is None else tuple(self._texts[i] for i in indices),
        )
