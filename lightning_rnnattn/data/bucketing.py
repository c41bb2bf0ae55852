"""Batches of examples of like lengths, shared among processes and resumed in mid-epoch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_rnnattn.data.epochs import EpochBatches
from lightning_rnnattn.errors import UserError

Collate = Callable[[Sequence[int], bool], Any]
"""Makes the batch of some examples; the flag says whether they count."""


class LengthBatches(EpochBatches):
    """The batches of N examples, for one of ``world_size`` processes; see `EpochBatches`.

    Examples are sorted by length, equals in random order, and cut into batches (pairs by the first of their lengths,
    equals by the next). Batches that are neighbours in length are dealt to the processes together, so that no process
    waits for a longer one. In training (``shuffle``) these groups come in an order that is drawn anew each epoch;
    otherwise the order is fixed, and equals stay as they were. A process without a batch in the last group repeats an
    example that does not count. So each example counts once, and every process has the same number of batches and takes
    part in every collective.

    Args:
        lengths: (N,) what an example costs, its length as a rule; (N, K) where it has several.
        collate: makes a batch from the numbers of examples, and whether they count.
        batch_size: the most examples in a batch; None is no limit.
        max_tokens: the most positions in a batch, examples times the longest; None is no limit. A longer example is a
            batch of its own.
        shuffle: whether the order is drawn from ``seed`` and the number of the epoch.
        seed: what the order is drawn from.
        rank: this process.
        world_size: how many processes share the examples.

    Raises:
        UserError: if there is no example, or no limit.
    """

    def __init__(
        self,
        lengths: npt.ArrayLike,
        collate: Collate,
        *,
        batch_size: int | None = None,
        max_tokens: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        self._lengths = np.asarray(lengths, dtype=np.int64)
        if not len(self._lengths):
            raise UserError("there are no examples: at least one is needed")
        self._keys = self._lengths.reshape(len(self._lengths), -1).T
        if batch_size is None and max_tokens is None:
            raise UserError("batch_size and max_tokens are both null: give at least one of them")
        self._collate = collate
        self._most, self._max_tokens = batch_size, max_tokens
        self._shuffle, self._seed = shuffle, seed
        self._rank, self._world_size = rank, world_size
        self._count = len(self._cut(self._sorted(np.arange(len(self._lengths)))))

    def __len__(self) -> int:
        return -(-self._count // self._world_size)

    def batches(self, first: int) -> Iterator[Any]:
        """See `EpochBatches.batches`."""
        for indices in islice(self._shares(), first, None):
            yield self._collate(indices or [0], bool(indices))

    @property
    def layout(self) -> Mapping[str, Any]:
        """See `EpochBatches.layout`."""
        return {
            "examples": len(self._lengths),
            "positions": int(self._lengths.sum()),
            "batch_size": self._most,
            "max_tokens": self._max_tokens,
            "seed": self._seed,
            "process(es)": self._world_size,
        }

    def _shares(self) -> Iterator[list[int]]:
        """The examples of this process' batches; of a batch that does not count, none."""
        examples, groups = np.arange(len(self._lengths)), np.arange(len(self))
        if self._shuffle:
            random = np.random.RandomState((self._seed + self.epoch()) % 2**32)
            examples, groups = random.permutation(examples), random.permutation(groups)
        order = self._sorted(examples)
        batches = self._cut(order)
        for group in groups:
            mine = group * self._world_size + self._rank
            start, stop = batches[mine] if mine < len(batches) else (0, 0)
            yield order[start:stop].tolist()

    def _sorted(self, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Examples by length, equals as they were."""
        return order[np.lexsort(self._keys[::-1, order])]

    def _cut(self, order: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        """Where batches begin and end among sorted examples."""
        cuts, start, longest = [], 0, 1
        for stop, length in enumerate(self._keys[:, order].max(axis=0).tolist()):
            size, longest = stop - start + 1, max(longest, length)
            full = self._most is not None and size > self._most
            if stop > start and (full or (self._max_tokens is not None and size * longest > self._max_tokens)):
                cuts.append((start, stop))
                start, longest = stop, max(length, 1)
        return [*cuts, (start, len(order))]
