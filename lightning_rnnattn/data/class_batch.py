"""Batches of sequences with a label, or several, for each whole sequence.

Letters: B batch, T time, F features, L labels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_rnnattn.data.padded import Padded, pad


class ClassBatch(NamedTuple):
    """Some sequences.

    Attributes:
        inputs: (B, T) ids, or (B, T, F) features.
        labels: (B,) int64; where a sequence may have several, (B, L) bool; None where there are none.
        counts: (B,) bool; False where a row only keeps this process in step with the others.
        indices: the number of each sequence in its split, from 0.
        texts: the sequences as text, where there is one and they are not trained on.
    """

    inputs: Padded
    labels: Tensor | None
    counts: Tensor
    indices: tuple[int, ...]
    texts: tuple[str, ...] | None


class ClassExamples:
    """The sequences of a split, encoded.

    Args:
        inputs: each sequence: ids (T,), or features (T, F).
        labels: (N,) int64, or (N, L) bool; None where there are none.
        texts: what batches show of each sequence, or None.
    """

    def __init__(self, inputs: Sequence[Tensor], labels: Tensor | None, texts: Sequence[str] | None = None) -> None:
        self._inputs, self._labels, self._texts = inputs, labels, texts
        self.lengths = np.array([len(each) for each in inputs], dtype=np.int64)

    def collate(self, indices: Sequence[int], counts: bool) -> ClassBatch:
        """See `Examples.collate`."""
        return ClassBatch(
            pad([self._inputs[i] for i in indices]),
            None if self._labels is None else self._labels[list(indices)],
            torch.full((len(indices),), counts),
            tuple(indices),
            None if self._texts is None else tuple(self._texts[i] for i in indices),
        )
