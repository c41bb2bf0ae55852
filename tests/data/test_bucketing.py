from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_rnnattn.data.bucketing import LengthBatches
from lightning_rnnattn.data.padded import Padded, pad
from lightning_rnnattn.errors import UserError


def batches(lengths, **options):
    return LengthBatches(lengths, lambda indices, counts: (list(indices), counts), **options)


def counted(given_out):
    return sorted(i for indices, counts in given_out if counts for i in indices)


LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 3), st.booleans(), st.integers(1, 9) | st.none(), st.integers(1, 60), st.integers(0, 3))
def test_each_example_counts_once_and_no_limit_is_passed(lengths, world, shuffle, most, max_tokens, epoch):
    ranks = [
        batches(lengths, batch_size=most, max_tokens=max_tokens, shuffle=shuffle, rank=rank, world_size=world)
        for rank in range(world)
    ]
    for rank in ranks:
        rank.epoch = lambda: epoch
    given_out = [list(rank) for rank in ranks]
    assert [len(rank) for rank in given_out] == [len(rank) for rank in ranks]
    assert counted([batch for rank in given_out for batch in rank]) == list(range(len(lengths)))
    assert len({len(rank) for rank in given_out}) == 1
    for indices, _ in (batch for rank in given_out for batch in rank):
        assert most is None or len(indices) <= most
        assert len(indices) == 1 or len(indices) * max(lengths[i] for i in indices) <= max_tokens


def test_neighbours_in_length_share_a_batch_and_a_step():
    lengths = np.random.RandomState(0).randint(1, 50, 400)
    ranks = [batches(lengths, batch_size=8, shuffle=True, rank=rank, world_size=2) for rank in (0, 1)]
    for step in zip(*ranks, strict=True):
        together = [lengths[i] for indices, counts in step if counts for i in indices]
        assert max(together) - min(together) <= 3  # 16 of 400 examples over 50 lengths


PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=60)


@given(PAIRS, st.booleans(), st.integers(1, 9) | st.none(), st.integers(1, 60))
def test_pairs_are_in_the_order_of_both_lengths(lengths, shuffle, most, max_tokens):
    loader = batches(lengths, batch_size=most, max_tokens=max_tokens, shuffle=shuffle)
    given_out = [indices for indices, _ in loader]
    assert len(given_out) == len(loader)
    assert sorted(i for indices in given_out for i in indices) == list(range(len(lengths)))
    in_order = sorted(([lengths[i] for i in indices] for indices in given_out), key=lambda pairs: (pairs[0], pairs[-1]))
    assert [pair for pairs in in_order for pair in pairs] == sorted(lengths)
    for indices in given_out:
        assert len(indices) == 1 or len(indices) * max(max(lengths[i]) for i in indices) <= max_tokens


def test_epochs_differ_and_repeat_by_seed():
    def epochs(seed):
        loader = batches([3, 1, 2] * 20, batch_size=4, shuffle=True, seed=seed)
        return [list(loader) for _ in range(3)]

    first = epochs(0)
    assert first == epochs(0)
    assert first[0] != first[1] != first[2]
    assert first != epochs(7)


def test_evaluation_is_in_order_of_length_and_every_time_the_same():
    loader = batches([3, 1, 2, 1], batch_size=2)
    assert list(loader) == list(loader) == [([1, 3], True), ([2, 0], True)]


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_process_without_a_batch_keeps_in_step(shuffle):
    ranks = [batches([4, 2, 3], batch_size=3, shuffle=shuffle, rank=rank, world_size=3) for rank in range(3)]
    (first,), *others = map(list, ranks)
    assert first == ([1, 2, 0], True)
    assert others == [[([0], False)]] * 2


@pytest.mark.parametrize("stop", range(1, 6))
def test_resumed_anywhere_the_rest_is_the_same(stop):
    def loader():
        made = batches([3, 1, 2, 5] * 5, batch_size=4, shuffle=True)
        made.epoch = lambda: 1
        return made

    expected = list(loader())
    broken, resumed = loader(), loader()
    seen = list(islice(broken, stop))
    resumed.load_state_dict(broken.state_dict())
    assert seen == expected[:stop]
    assert list(resumed) == (expected[stop:] or expected)  # a state from an epoch's end begins the next one


def test_a_state_from_mid_epoch_needs_the_same_batches():
    loader = batches([1, 2, 3, 4], batch_size=1, shuffle=True)
    next(iter(loader))
    state = loader.state_dict()
    with pytest.raises(UserError, match=r"middle of an epoch \(batch 1\).*4 examples, now 5.*an epoch's end"):
        batches([1, 2, 3, 4, 5], batch_size=1, shuffle=True).load_state_dict(state)
    with pytest.raises(UserError, match=r"1 process\(es\), now 2"):
        batches([1, 2, 3, 4], batch_size=1, shuffle=True, world_size=2).load_state_dict(state)
    list(loader)
    batches([1, 2], batch_size=1, shuffle=True, world_size=2).load_state_dict(
        {**state, "position": 0}
    )  # at an epoch's end anything goes


def test_an_epoch_that_is_cut_short_ends_there():
    loader = batches([1, 2, 3, 4], batch_size=1, shuffle=True)
    loader.epoch_batches = 2
    list(islice(iter(loader), 2))
    assert loader.state_dict()["position"] == 0


def test_nothing_and_no_limit_are_refused():
    with pytest.raises(UserError, match="no examples"):
        batches([], batch_size=1)
    with pytest.raises(UserError, match=r"batch_size and max_tokens"):
        batches([1])


def test_padded():
    padded = pad([torch.tensor([1.0, 2.0]).unsqueeze(-1), torch.zeros(0, 1)])
    assert padded.values.tolist() == [[[1.0], [2.0]], [[0.0], [0.0]]]
    assert padded.mask.tolist() == [[True, True], [False, False]]
    moved = padded.to("meta")
    assert isinstance(moved, Padded)
    assert moved.values.device.type == "meta"
    assert moved.lengths.device.type == "cpu"
    assert pad([torch.zeros(0, dtype=torch.int64)]).values.shape == (1, 1)
