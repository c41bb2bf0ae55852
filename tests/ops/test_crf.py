"""Linear-chain CRFs against all paths, one by one."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn.ops.crf import Potentials, crf_decode, crf_log_partition, crf_marginals, crf_path_score

T = 4
BATCHES = {
    "lengths": st.lists(st.integers(0, T), min_size=1, max_size=4),
    "num_labels": st.integers(1, 4),
    "seed": st.integers(0, 10_000),
}


def random_potentials(batch, num_labels, steps=T, requires_grad=False):
    shapes = ((batch, steps, num_labels), (num_labels, num_labels), (num_labels,), (num_labels,))
    return Potentials(*(torch.randn(s, dtype=torch.float64).mul(2).requires_grad_(requires_grad) for s in shapes))


def score_by_hand(potentials, b, path):
    if not path:
        return torch.zeros((), dtype=torch.float64)
    score = potentials.start[path[0]] + potentials.end[path[-1]]
    score = score + sum(potentials.emission[b, t, label] for t, label in enumerate(path))
    return score + sum(potentials.transition[i, j] for i, j in itertools.pairwise(path))


def paths(potentials, b, length):
    """Every path of a row, and the scores, (number of paths,)."""
    every = list(itertools.product(range(potentials.emission.shape[-1]), repeat=length))
    return every, torch.stack([score_by_hand(potentials, b, path) for path in every])


@settings(max_examples=40, deadline=None)
@given(**BATCHES)
def test_every_quantity_equals_enumeration(lengths, num_labels, seed):
    torch.manual_seed(seed)
    potentials = random_potentials(len(lengths), num_labels)
    sizes = torch.tensor(lengths)
    labels = torch.randint(num_labels, (len(lengths), T))
    scores = crf_path_score(potentials, labels, sizes)
    log_z = crf_log_partition(potentials, sizes)
    best = crf_decode(potentials, sizes)
    marginals = crf_marginals(potentials, sizes)
    for b, length in enumerate(lengths):
        every, every_score = paths(potentials, b, length)
        torch.testing.assert_close(scores[b], score_by_hand(potentials, b, labels[b, :length].tolist()))
        torch.testing.assert_close(log_z[b], every_score.logsumexp(0))
        assert tuple(best[b, :length].tolist()) == every[int(every_score.argmax())]
        assert not best[b, length:].any()
        probabilities = every_score.softmax(0)
        expected = torch.zeros(T, num_labels, dtype=torch.float64)
        for path, probability in zip(every, probabilities, strict=True):
            for t, label in enumerate(path):
                expected[t, label] += probability
        torch.testing.assert_close(marginals[b], expected)


@settings(max_examples=30, deadline=None)
@given(**BATCHES)
def test_gradient_equals_that_of_enumeration(lengths, num_labels, seed):
    torch.manual_seed(seed)
    potentials = random_potentials(len(lengths), num_labels, requires_grad=True)
    sizes, labels = torch.tensor(lengths), torch.randint(num_labels, (len(lengths), T))
    nats = (crf_log_partition(potentials, sizes) - crf_path_score(potentials, labels, sizes)).sum()
    by_hand = sum(
        paths(potentials, b, length)[1].logsumexp(0) - score_by_hand(potentials, b, labels[b, :length].tolist())
        for b, length in enumerate(lengths)
    )
    torch.testing.assert_close(nats, by_hand)
    got = torch.autograd.grad(nats, potentials)
    expected = (
        torch.autograd.grad(by_hand, potentials, materialize_grads=True)
        if by_hand.requires_grad
        else [torch.zeros_like(x) for x in potentials]
    )
    torch.testing.assert_close(got, tuple(expected))


def test_gradcheck_to_the_second_order():
    potentials = random_potentials(3, 3, requires_grad=True)
    lengths = torch.tensor([4, 0, 1])
    labels = torch.randint(3, (3, T))

    def nats(*tensors):
        own = Potentials(*tensors)
        return crf_log_partition(own, lengths) - crf_path_score(own, labels, lengths)

    assert torch.autograd.gradcheck(nats, tuple(potentials))
    assert torch.autograd.gradgradcheck(nats, tuple(potentials))


@settings(max_examples=30, deadline=None)
@given(**BATCHES)
def test_marginals_are_the_derivative_of_the_log_partition(lengths, num_labels, seed):
    torch.manual_seed(seed)
    potentials = random_potentials(len(lengths), num_labels, requires_grad=True)
    sizes = torch.tensor(lengths)
    [expected] = torch.autograd.grad(crf_log_partition(potentials, sizes).sum(), potentials.emission)
    marginals = crf_marginals(potentials, sizes)
    torch.testing.assert_close(marginals, expected)
    torch.testing.assert_close(marginals.sum(-1), (torch.arange(T) < sizes[:, None]).double())


def test_two_steps_of_two_labels_by_hand():
    # Paths score 00: 1+2+1+0 = 4, 01: 1+0+0 = 1, 10: 0, 11: 3; start, end and the rest are zero.
    emission = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    transition = torch.tensor([[1.0, 0.0], [-2.0, 3.0]])
    potentials = Potentials(emission, transition, torch.zeros(2), torch.zeros(2))
    lengths = torch.tensor([2])
    z = math.e**4 + math.e**1 + math.e**0 + math.e**3
    assert crf_log_partition(potentials, lengths).item() == pytest.approx(math.log(z))
    assert crf_decode(potentials, lengths).tolist() == [[0, 0]]
    first = (math.e**4 + math.e) / z
    second = (math.e**4 + 1) / z
    expected = torch.tensor([[[first, 1 - first], [second, 1 - second]]])
    torch.testing.assert_close(crf_marginals(potentials, lengths), expected)


def test_ties_go_to_the_smallest_labels():
    potentials = Potentials(torch.zeros(2, 5, 3), torch.zeros(3, 3), torch.zeros(3), torch.zeros(3))
    assert not crf_decode(potentials, torch.tensor([5, 3])).any()
    # 0 1 and 1 0 are equally good: the path that ends in the smaller label wins.
    alternating = potentials._replace(transition=-torch.eye(3))
    assert crf_decode(alternating, torch.tensor([2, 1]))[:, :2].tolist() == [[1, 0], [0, 0]]


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, T), min_size=1, max_size=3), seed=st.integers(0, 10_000))
def test_what_is_forbidden_never_happens(lengths, seed):
    torch.manual_seed(seed)
    potentials = random_potentials(len(lengths), 3)
    forbidden = torch.rand(3, 3) < 0.4
    forbidden[0] = False  # label 0 may be followed by anything, itself included: some path always remains
    transition = potentials.transition.masked_fill(forbidden, -math.inf)
    start = potentials.start.masked_fill(torch.tensor([False, False, True]), -math.inf)
    potentials = potentials._replace(transition=transition, start=start)
    sizes = torch.tensor(lengths)
    best, marginals, log_z = (f(potentials, sizes) for f in (crf_decode, crf_marginals, crf_log_partition))
    for b, length in enumerate(lengths):
        every, every_score = paths(potentials, b, length)
        torch.testing.assert_close(log_z[b], every_score.logsumexp(0))
        assert tuple(best[b, :length].tolist()) == every[int(every_score.argmax())]
        for label in range(3):
            for t in range(length):
                holds = torch.tensor([path[t] == label for path in every])
                expected = every_score.softmax(0)[holds].sum()
                torch.testing.assert_close(marginals[b, t, label], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(dtype):
    steps = 300
    rounded = Potentials(*(x.to(dtype) for x in random_potentials(2, 5, steps)))
    exact = Potentials(*(x.double() for x in rounded))
    lengths, labels = torch.tensor([steps, 7]), torch.randint(5, (2, steps))
    for function, args in ((crf_log_partition, (lengths,)), (crf_path_score, (labels, lengths))):
        got = function(rounded, *args)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), function(exact, *args), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        crf_marginals(rounded, lengths).double(), crf_marginals(exact, lengths), atol=1e-4, rtol=0
    )


def test_padding_has_no_influence():
    potentials = random_potentials(2, 3)
    garbage = potentials._replace(emission=potentials.emission.clone())
    garbage.emission[0, 2:] = 1e6
    garbage.emission[1] = -1e6
    lengths, labels = torch.tensor([2, 0]), torch.randint(3, (2, T))
    for function in (crf_log_partition, crf_decode, crf_marginals):
        assert torch.equal(function(potentials, lengths), function(garbage, lengths))
    assert torch.equal(crf_path_score(potentials, labels, lengths), crf_path_score(garbage, labels, lengths))
