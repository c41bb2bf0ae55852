import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_rnnattn.data import Document, DocumentBatches
from lightning_rnnattn.errors import UserError


@given(
    lengths=st.lists(st.integers(2, 30), min_size=1, max_size=9),
    batch_size=st.integers(1, 4),
    seq_len=st.integers(1, 8),
    world_size=st.integers(1, 3),
)
def test_every_document_is_scored_once_from_its_start(lengths, batch_size, seq_len, world_size):
    documents = [Document(str(i), 100 * i + np.arange(n, dtype=np.uint16)) for i, n in enumerate(lengths)]
    scored = {}
    counts = set()
    for rank in range(world_size):
        batches = DocumentBatches(documents, batch_size, seq_len, rank=rank, world_size=world_size)
        given_out = list(batches)
        counts.add((len(batches), len(given_out)))
        group = None
        for batch in given_out:
            if batch.is_first:
                group = batch.documents
                assert not any(name in scored for name in group)
            assert batch.documents == group
            assert not batch.mask[len(group) :].any()
            for name, tokens, targets, mask in zip(group, batch.tokens, batch.targets, batch.mask, strict=False):
                scored.setdefault(name, []).extend(zip(tokens[mask].tolist(), targets[mask].tolist(), strict=True))
    assert len(counts) == 1
    assert scored == {d.name: list(zip(d.tokens[:-1], d.tokens[1:], strict=True)) for d in documents}


def test_order_is_kept():
    documents = [Document(name, np.arange(3, dtype=np.uint16)) for name in "dbca"]
    assert [batch.documents for batch in DocumentBatches(documents, 3, 8)] == [["d", "b", "c"], ["a"]]


def test_too_short():
    with pytest.raises(UserError, match=r"one.txt has 1 token\(s\)"):
        DocumentBatches([Document("one.txt", np.zeros(1, np.uint16))], 1, 1)
