"""Batches of sentences with a label for each word.

Letters: B batch, T words, C characters of a word.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_rnnattn.data.columns import Sentence
from lightning_rnnattn.data.padded import Padded, pad


class TagBatch(NamedTuple):
    """Some sentences.

    Attributes:
        words: (B, T) ids.
        characters: (B, T, C) int64 ids of each word's characters, zeros past its end; None where they are not read.
        character_lengths: (B, T) int64, zero past a sentence's end.
        labels: (B, T) int64; None where there are none.
        counts: (B,) bool; False where a row only keeps this process in step with the others.
        indices: the number of each sentence in its split, from 0.
        texts: the words, where they are not trained on.
    """

    words: Padded
    characters: Tensor | None
    character_lengths: Tensor | None
    labels: Tensor | None
    counts: Tensor
    indices: tuple[int, ...]
    texts: tuple[tuple[str, ...], ...] | None


class TaggedExamples:
    """The sentences of a split, encoded.

    Args:
        sentences: the sentences.
        words: the ids of each one's words.
        characters: the ids of the characters of each one's words, or None.
        labels: the labels of each one, or None.
        with_texts: whether batches have the words, too.
    """

    def __init__(
        self,
        sentences: Sequence[Sentence],
        words: Sequence[Tensor],
        characters: Sequence[Sequence[Tensor]] | None,
        labels: Sequence[Tensor] | None,
        with_texts: bool,
    ) -> None:
        self._sentences, self._words, self._characters, self._labels = sentences, words, characters, labels
        self._with_texts = with_texts
        self.lengths = np.array([len(sentence.words) for sentence in sentences])

    def collate(self, indices: Sequence[int], counts: bool) -> TagBatch:
        """See `Examples.collate`."""
        words = pad([self._words[i] for i in indices])
        characters = lengths = None
        if self._characters is not None:
            rows = [self._characters[i] for i in indices]
            longest = max((len(word) for row in rows for word in row), default=1)
            characters = torch.zeros(*words.values.shape, max(1, longest), dtype=torch.int64)
            lengths = torch.zeros(words.values.shape, dtype=torch.int64)
            for b, row in enumerate(rows):
                for t, word in enumerate(row):
                    characters[b, t, : len(word)] = word
                    lengths[b, t] = len(word)
        return TagBatch(
            words,
            characters,
            lengths,
            None if self._labels is None else pad([self._labels[i] for i in indices]).values,
            torch.full((len(indices),), counts),
            tuple(indices),
            tuple(self._sentences[i].words for i in indices) if self._with_texts else None,
        )
