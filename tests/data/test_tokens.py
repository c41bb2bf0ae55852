import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_rnnattn.data import TokenBatches
from lightning_rnnattn.data.tokens import chunk_lengths
from lightning_rnnattn.errors import UserError


def stream(length):
    """Tokens that tell their own place."""
    return np.arange(length, dtype=np.uint32)


SIZES = {
    "length": st.integers(2, 90),
    "batch_size": st.integers(1, 5),
    "seq_len": st.integers(1, 9),
    "world_size": st.integers(1, 4),
    "std": st.sampled_from([0.0, 2.0]),
}


@given(**SIZES)
def test_every_pair_is_visited_once(length, batch_size, seq_len, world_size, std):
    seen = []
    counts = set()
    for rank in range(world_size):
        batches = TokenBatches(stream(length), batch_size, seq_len, std, rank=rank, world_size=world_size)
        rows = [[] for _ in range(batch_size)]
        for i, batch in enumerate(batches):
            assert batch.tokens.shape == batch.targets.shape == batch.mask.shape
            assert batch.tokens.shape[0] == batch_size
            assert 1 <= batch.tokens.shape[1] <= (max(5, seq_len + 5 * std) if std else seq_len)
            assert batch.is_first == (i == 0)
            assert batch.documents is None
            assert torch.equal(batch.targets[batch.mask], batch.tokens[batch.mask] + 1)
            for row, tokens, mask in zip(rows, batch.tokens, batch.mask, strict=True):
                row += tokens[mask].tolist()
        counts.add((len(batches), i + 1))
        for row in rows:
            assert row == list(range(row[0], row[0] + len(row))) if row else True  # contiguous over all batches
            seen += row
    assert len(counts) == 1
    assert len({*next(iter(counts))}) == 1
    assert sorted(seen) == list(range(length - 1))


@given(**SIZES)
def test_only_the_last_column_is_masked(length, batch_size, seq_len, world_size, std):
    for rank in range(world_size):
        *others, last = TokenBatches(stream(length), batch_size, seq_len, std, rank=rank, world_size=world_size)
        assert all(batch.mask.all() for batch in others)
        assert last.mask[:, :-1].all()


def test_by_hand():
    # 7 pairs in 3 rows: 3, 2, 2.
    first, second = TokenBatches(stream(8), 3, 2)
    assert first.tokens.tolist() == [[0, 1], [3, 4], [5, 6]]
    assert first.targets.tolist() == [[1, 2], [4, 5], [6, 7]]
    assert second.tokens[0].tolist() == [2]
    assert second.mask.tolist() == [[True], [False], [False]]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_tensors_are_what_embeddings_take(dtype):
    for tensor in next(iter(TokenBatches(np.arange(50, dtype=dtype), 4, 3)))[:2]:
        assert tensor.dtype == torch.int64
        assert tensor.is_contiguous()


def same(a, b):
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y
        for first, second in zip(a, b, strict=True)
        for x, y in zip(first, second, strict=True)
    )


@given(**SIZES, data=st.data())
def test_resumes_with_the_identical_remainder(length, batch_size, seq_len, world_size, std, data):
    def make():
        return TokenBatches(stream(length), batch_size, seq_len, std, rank=world_size - 1, world_size=world_size)

    batches, epoch = make(), data.draw(st.integers(0, 3))
    batches.epoch = lambda: epoch
    whole = list(batches)
    place = data.draw(st.integers(0, len(batches)))
    for _, _ in zip(range(place), batches, strict=False):
        pass
    resumed = make()
    resumed.load_state_dict(batches.state_dict())
    resumed.epoch = batches.epoch
    assert same(list(resumed), whole[place:] or whole)
    assert same(list(resumed), whole)


def lengths(batches):
    return [batch.tokens.shape[1] for batch in batches]


def test_lengths_vary_from_batch_to_batch_and_their_order_from_epoch_to_epoch():
    batches = TokenBatches(stream(4001), 2, 20, 3.0)
    first = lengths(batches)
    batches.epoch = lambda: 0
    assert first == lengths(batches)
    batches.epoch = lambda: 1
    second = lengths(batches)
    assert len(set(first)) > 5
    assert first != second
    assert sorted(first) == sorted(second)  # so that every epoch has as many batches
    assert len(first) == len(second) == len(batches)
    assert first == lengths(TokenBatches(stream(4001), 2, 20, 3.0))


def test_processes_read_pieces_of_the_same_lengths():
    one = TokenBatches(stream(4001), 4, 20, 3.0)
    ranks = [TokenBatches(stream(4001), 2, 20, 3.0, rank=rank, world_size=2) for rank in range(2)]
    for epoch in range(2):
        for batches in (one, *ranks):
            batches.epoch = lambda epoch=epoch: epoch
        for whole, *parts in zip(one, *ranks, strict=True):
            assert torch.equal(whole.tokens, torch.cat([part.tokens for part in parts]))
            assert torch.equal(whole.mask, torch.cat([part.mask for part in parts]))


def test_lengths_are_distributed_as_in_the_released_awd_lstm():
    drawn = np.array(chunk_lengths(7_000_000, 70, 5.0)[:-1])
    near, half = drawn[drawn > 52], drawn[drawn <= 52]
    assert len(half) / len(drawn) == pytest.approx(0.05, abs=0.003)
    assert near.mean() == pytest.approx(69.5, abs=0.1)  # int() cuts off
    assert near.std() == pytest.approx(5.0, abs=0.1)
    assert half.mean() == pytest.approx(34.5, abs=0.5)
    assert min(chunk_lengths(100_000, 8, 5.0)[:-1]) == 5
    assert chunk_lengths(11, 4, 0.0) == [4, 4, 3]


def test_state_counts_batches_given_out():
    batches = TokenBatches(stream(20), 1, 5)
    assert batches.state_dict()["position"] == 0
    iterator = iter(batches)
    next(iterator)
    iter(batches)  # nothing asked of it
    assert batches.state_dict()["position"] == 1
    list(iterator)
    assert batches.state_dict()["position"] == 0  # the next epoch


def test_an_epoch_that_is_cut_short_ends_there():
    batches = TokenBatches(stream(20), 1, 5)
    batches.epoch_batches = 2
    iterator = iter(batches)
    next(iterator)
    assert batches.state_dict()["position"] == 1
    next(iterator)
    assert batches.state_dict()["position"] == 0


def test_other_streams_in_the_middle_of_an_epoch():
    batches = TokenBatches(stream(100), 4, 5)
    at_end = batches.state_dict()
    next(iter(batches))
    other = TokenBatches(stream(100), 4, 5, rank=1, world_size=2)
    other.load_state_dict(at_end)
    with pytest.raises(UserError, match=r"batch 1\).*\(4 rows \(batch_size times processes\), now 8\)"):
        other.load_state_dict(batches.state_dict())


def test_too_short():
    with pytest.raises(UserError, match=r"1 token\(s\)"):
        TokenBatches(stream(1), 1, 1)
