"""Beam search against what it should find, by enumeration."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn import BeamSearch, Greedy

from .tiny import BOS, EOS, TinyModel, sources


@dataclass(frozen=True)
class NoEarlyStop(BeamSearch):
    """Goes on until every text has ended."""

    def _settled(self, texts, real):
        return texts.ended.all(-1)


def find(search, model, source, lengths, **options):
    return search.search(model, source, lengths, bos_id=BOS, eos_id=EOS, **options)


def every_text(model, source, longest, vocab_size, alpha, beta):
    """All texts with their scores, the best first, computed as the paper has it."""
    scored = []
    others = [token for token in range(vocab_size) if token != EOS]
    for length in range(longest + 1):
        for text in itertools.product(others, repeat=length):
            log_prob, weights = model.log_prob(source, list(text))
            penalty = (5 + length + 1) ** alpha / (5 + 1) ** alpha
            coverage = beta * sum(torch.log(torch.clamp(p, max=1.0)).item() for p in weights.sum(0))
            scored.append((log_prob / penalty + coverage, list(text)))
    return sorted(scored, reverse=True)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**20),
    alpha=st.sampled_from([0.0, 0.6, 1.0, 2.0]),
    beta=st.sampled_from([0.0, 0.3]),
    longest=st.integers(1, 4),
)
def test_a_beam_as_wide_as_the_space_finds_the_best(seed, alpha, beta, longest):
    torch.manual_seed(seed)
    vocab_size = 3
    model = TinyModel(vocab_size, spread=0.7).double().eval()
    source, lengths = sources(2, 4)
    search = BeamSearch(
        beam_size=40, nbest=5, max_length=longest, length_penalty=alpha, coverage_penalty=beta, max_ratio=2
    )
    for row, length, found in zip(source, lengths, find(search, model, source, lengths), strict=True):
        best = every_text(model, row[:length], min(longest, 2 * int(length)), vocab_size, alpha, beta)
        assert [h.score for h in found] == pytest.approx([score for score, _ in best[:5]])
        assert [h.tokens for h in found] == [text for _, text in best[:5]]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**20),
    beam_size=st.integers(1, 6),
    nbest=st.integers(1, 6),
    alpha=st.sampled_from([0.0, 0.6, 1.5]),
    beta=st.sampled_from([0.0, 0.5]),
)
def test_stopping_early_changes_nothing(seed, beam_size, nbest, alpha, beta):
    torch.manual_seed(seed)
    model = TinyModel(7).double()
    source, lengths = sources(5)
    options = {
        "beam_size": beam_size,
        "nbest": min(nbest, beam_size),
        "max_length": 15,
        "length_penalty": alpha,
        "coverage_penalty": beta,
    }
    early = find(BeamSearch(**options), model, source, lengths)
    late = find(NoEarlyStop(**options), model, source, lengths)
    assert early == late


def test_stopping_early_saves_steps():
    source, lengths = sources(5)
    model = TinyModel(7)
    steps = []
    for search in (BeamSearch, NoEarlyStop):
        model.memories.clear()
        find(search(beam_size=4, length_penalty=0.0), model, source, lengths)
        steps.append(sum(shape[0] for shape, _ in model.memories))  # of all sentences
    assert steps[0] < steps[1]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_beam_of_one_is_greedy(alpha):
    model = TinyModel(9).double()
    source, lengths = sources(20)
    greedy = find(Greedy(max_length=15), model, source, lengths)
    beam = find(BeamSearch(max_length=15, beam_size=1, length_penalty=alpha), model, source, lengths)
    assert [[h.tokens for h in found] for found in beam] == [[h.tokens for h in found] for found in greedy]
    assert [found[0].log_prob for found in beam] == pytest.approx([found[0].log_prob for found in greedy])


def test_a_wider_beam_finds_what_is_more_likely():
    model = TinyModel(9).double()
    source, lengths = sources(20)
    totals = [
        sum(
            found[0].score
            for found in find(BeamSearch(max_length=10, beam_size=k, length_penalty=0.0), model, source, lengths)
        )
        for k in (1, 3, 10)
    ]
    assert totals == sorted(totals)
    assert totals[0] < totals[-1]


def test_length_penalty_favours_longer_texts():
    model = TinyModel(9).double()
    source, lengths = sources(20)
    short, long = (
        sum(len(found[0].tokens) for found in find(search, model, source, lengths))
        for search in (BeamSearch(max_length=10, length_penalty=0.0), BeamSearch(max_length=10, length_penalty=2.0))
    )
    assert short < long


def test_the_memory_is_one_for_all_hypotheses():
    model = TinyModel(9)
    source, lengths = sources(4)
    for beam_size in (1, 3, 8):
        model.memories.clear()
        find(BeamSearch(beam_size=beam_size, min_length=6, max_length=6), model, source, lengths)
        assert len(model.memories) == 7
        assert len(set(model.memories)) == 1  # neither moved nor grown
        assert model.memories[0][0][0] == len(source)
