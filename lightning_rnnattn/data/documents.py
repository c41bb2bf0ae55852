"""Batches of whole documents, each with a state of its own: for predictions."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from lightning_rnnattn.data.streams import TokenArray
from lightning_rnnattn.data.tokens import TokenBatch
from lightning_rnnattn.errors import UserError


class Document(NamedTuple):
    """A text and its name.

    Attributes:
        name: what predictions are listed under.
        tokens: (N,) integers.
    """

    name: str
    tokens: TokenArray


class DocumentBatches:
    """The batches of several documents, in their order, for one of ``world_size`` processes.

    ``batch_size * world_size`` neighbouring documents are a group, dealt out to the processes in turn; each is a row. A
    group is cut into chunks of ``seq_len``, of which the first has ``is_first`` set, up to the end of its longest
    document. The N - 1 predictions of a document come once. Every process has the same number of batches, so that
    parameters may be sharded over them; one without a document has a row of masked zeros.

    Args:
        documents: at least two tokens each.
        batch_size: the most documents in a batch of one process.
        seq_len: the most columns of a batch.
        rank: this process.
        world_size: how many processes share the documents.

    Raises:
        UserError: if a document has fewer than two tokens.
    """

    def __init__(
        self, documents: Sequence[Document], batch_size: int, seq_len: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        for document in documents:
            if len(document.tokens) < 2:
                raise UserError(
                    f"{document.name} has {len(document.tokens)} token(s): at least 2 are needed to predict one"
                )
        size = batch_size * world_size
        self._groups = [documents[i : i + size] for i in range(0, len(documents), size)]
        self._seq_len, self._rank, self._world_size = seq_len, rank, world_size

    def __len__(self) -> int:
        return sum(len(self._chunks(group)) for group in self._groups)

    def __iter__(self) -> Iterator[TokenBatch]:
        for group in self._groups:
            mine = group[self._rank :: self._world_size]
            for begin in self._chunks(group):
                yield self._batch(mine, begin, min(begin + self._seq_len, _longest(group)))

    def _chunks(self, group: Sequence[Document]) -> range:
        return range(0, _longest(group), self._seq_len)

    def _batch(self, documents: Sequence[Document], begin: int, end: int) -> TokenBatch:
        window = torch.zeros(max(1, len(documents)), end - begin + 1, dtype=torch.int64)
        mask = torch.zeros(max(1, len(documents)), end - begin, dtype=torch.bool)
        for row, document in enumerate(documents):
            ids = torch.tensor(document.tokens[begin : end + 1].astype("int64"))
            window[row, : len(ids)] = ids
            mask[row, : max(0, len(ids) - 1)] = True
        return TokenBatch(
            window[:, :-1].contiguous(),
            window[:, 1:].contiguous(),
            mask,
            is_first=begin == 0,
            documents=[document.name for document in documents],
        )


def _longest(group: Sequence[Document]) -> int:
    """The most predictions that a document of the group has."""
    return max(len(document.tokens) for document in group) - 1
