"""Sampling of texts for sources."""

import pytest
import torch

from lightning_rnnattn import Greedy, Sampling

from .tiny import BOS, EOS, TinyModel, sources


def find(search, model, source, lengths):
    return search.search(model, source, lengths, bos_id=BOS, eos_id=EOS)


def test_the_seed_and_the_source_alone_decide():
    model = TinyModel(9).double()
    source, lengths = sources(6)
    search = Sampling(max_length=12, nbest=2)
    first = find(search, model, source, lengths)
    torch.rand(3)
    before = torch.get_rng_state()
    assert find(search, model, source, lengths) == first
    assert torch.equal(torch.get_rng_state(), before)
    order = torch.tensor([4, 0, 3])  # other companions, in another order
    for found, row in zip(find(search, model, source[order], lengths[order]), order, strict=True):
        assert [h.tokens for h in found] == [h.tokens for h in first[row]]
    assert find(Sampling(max_length=12, nbest=2, seed=1), model, source, lengths) != first


def test_draws_of_a_source_differ():
    model = TinyModel(9, spread=0.3)
    source, lengths = sources(3)
    for found in find(Sampling(max_length=12, min_length=8, nbest=4), model, source, lengths):
        assert len({tuple(h.tokens) for h in found}) == 4


def test_temperature_zero_is_greedy():
    model = TinyModel(9).double()
    source, lengths = sources(6)
    greedy = [[h.tokens for h in found] for found in find(Greedy(max_length=9), model, source, lengths)]
    for options in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-9}):
        sampled = find(Sampling(max_length=9, **options), model, source, lengths)
        assert [[h.tokens for h in found] for found in sampled] == greedy


def test_texts_come_as_often_as_the_model_says():
    model = TinyModel(3, spread=0.5).double().eval()
    source = torch.tensor([[5, 3]])
    [found] = find(Sampling(max_length=3, nbest=4000), model, source, torch.tensor([2]))
    counts: dict[tuple[int, ...], int] = {}
    for hypothesis in found:
        counts[tuple(hypothesis.tokens)] = counts.get(tuple(hypothesis.tokens), 0) + 1
    for text, count in counts.items():
        if len(text) < 3:  # longer ones were cut
            log_prob, _ = model.log_prob(source[0], list(text))
            assert count / 4000 == pytest.approx(torch.tensor(log_prob).exp().item(), abs=0.03)
