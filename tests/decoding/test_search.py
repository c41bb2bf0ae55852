"""What every search keeps to."""

import pytest
import torch

from lightning_rnnattn import BeamSearch, Greedy, Sampling, UserError
from lightning_rnnattn.decoding.filters import block_repeats

from .tiny import BOS, EOS, TinyModel, sources

V = 9
SEARCHES = [
    Greedy(max_length=12),
    Greedy(max_length=12, max_ratio=1.5, min_length=3, no_repeat_ngram=2),
    Sampling(max_length=12, seed=3),
    Sampling(max_length=12, max_ratio=2, temperature=0.7, top_k=5, top_p=0.9, nbest=3, no_repeat_ngram=1),
    BeamSearch(max_length=12, beam_size=1),
    BeamSearch(max_length=12, beam_size=4, nbest=4),
    BeamSearch(max_length=12, max_ratio=2, min_length=2, length_penalty=0.8, nbest=2),
    BeamSearch(max_length=12, beam_size=3, length_penalty=1.0, coverage_penalty=0.4, no_repeat_ngram=2),
    BeamSearch(max_length=12, beam_size=20),  # more than the vocabulary
]
IDS = [str(i) for i in range(len(SEARCHES))]


@pytest.fixture
def model():
    return TinyModel(V).double()


def find(search, model, source, lengths, **options):
    return search.search(model, source, lengths, bos_id=BOS, eos_id=EOS, **options)


@pytest.mark.parametrize("search", SEARCHES, ids=IDS)
def test_batched_equals_one_by_one(model, search):
    source, lengths = sources()
    together = find(search, model, source, lengths, need_weights=True)
    assert len({len(best.tokens) for best, *_ in together}) > 1  # sentences left the batch at different times
    for row, length, found in zip(source, lengths, together, strict=True):
        alone = find(search, model, row[None, :length], length[None], need_weights=True)[0]
        assert [h.tokens for h in found] == [h.tokens for h in alone]
        for ours, theirs in zip(found, alone, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-9)
            torch.testing.assert_close(ours.weights, theirs.weights)


@pytest.mark.parametrize("search", SEARCHES, ids=IDS)
def test_log_prob_and_weights_are_those_of_teacher_forcing(model, search):
    model.eval()
    source, lengths = sources()
    for row, length, found in zip(
        source, lengths, find(search, model, source, lengths, need_weights=True), strict=True
    ):
        for hypothesis in found:
            log_prob, weights = model.log_prob(row[:length], hypothesis.tokens)
            assert hypothesis.log_prob == pytest.approx(log_prob, abs=1e-9)
            torch.testing.assert_close(hypothesis.weights, weights[:-1])
            assert hypothesis.weights.shape == (len(hypothesis.tokens), length)


@pytest.mark.parametrize("search", SEARCHES, ids=IDS)
def test_best_first_within_length_and_without_repeats(model, search):
    source, lengths = sources()
    for length, found in zip(lengths.tolist(), find(search, model, source, lengths), strict=True):
        assert 1 <= len(found) <= getattr(search, "nbest", 1)
        scores = [hypothesis.score for hypothesis in found]
        assert scores == sorted(scores, reverse=True)
        longest = min(search.max_length, -int(-length * (search.max_ratio or 99) // 1))
        for tokens, _, _, weights in found:
            assert min(search.min_length, longest) <= len(tokens) <= longest
            assert EOS not in tokens
            assert weights is None
            if n := search.no_repeat_ngram:
                runs = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
                assert len(runs) == len(set(runs))


def test_lengths_are_kept_exactly(model):
    source, lengths = sources()
    for search in (Greedy, Sampling, BeamSearch):
        found = find(search(min_length=8, max_length=8), model, source, lengths)
        assert {len(best.tokens) for best, *_ in found} == {8}
        found = find(search(max_length=0), model, source, lengths)
        assert {len(best.tokens) for best, *_ in found} == {0}
    free = find(Greedy(max_length=9), model, source, lengths)
    assert {len(best.tokens) for best, *_ in free} > {9}  # some would have gone on, others end on their own


def test_repetition_by_hand():
    texts = torch.tensor([[[3, 4, 3], [4, 4, 4]]])
    allowed = lambda n: [(row > -torch.inf).nonzero().flatten().tolist() for row in blocked(n)]  # noqa: E731
    blocked = lambda n: block_repeats(torch.zeros(1, 2, 6), texts, n)[0]  # noqa: E731
    assert allowed(1) == [[0, 1, 2, 5], [0, 1, 2, 3, 5]]
    assert allowed(2) == [[0, 1, 2, 3, 5], [0, 1, 2, 3, 5]]  # 3 has been followed by 4
    assert allowed(3) == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 5]]
    assert allowed(4) == [[0, 1, 2, 3, 4, 5]] * 2  # nothing is as long as that yet


@pytest.mark.parametrize("search", [Greedy, Sampling, BeamSearch])
def test_a_text_that_can_only_repeat_itself_ends(search):
    source, lengths = sources(3)
    found = find(search(min_length=8, max_length=9, no_repeat_ngram=1), TinyModel(4), source, lengths)
    for best, *_ in found:
        assert sorted(best.tokens) == [0, 1, 3]


def test_finished_sentences_leave_the_batch(model):
    source, lengths = sources()
    find(Greedy(max_length=12), model, source, lengths)
    sizes = [shape[0] for shape, _ in model.memories]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 2


def test_the_models_mode_and_gradients_are_left_alone(model):
    source, lengths = sources()
    model.train()
    first = find(BeamSearch(max_length=5), model, source, lengths)
    assert first == find(BeamSearch(max_length=5), model, source, lengths)  # no dropout
    assert model.training
    assert torch.is_grad_enabled()


def test_log_probs_of_half_precision_are_summed_in_single():
    model = TinyModel(V).bfloat16().eval()
    source, lengths = sources(1)
    for search in (Greedy, BeamSearch):
        # With weights, as below: the fused attention rounds otherwise.
        [[best]] = find(search(min_length=20), model, source, lengths, need_weights=True)
        assert best.log_prob == pytest.approx(model.log_prob(source[0, : lengths[0]], best.tokens)[0], abs=1e-4)


@pytest.mark.parametrize("search", SEARCHES, ids=IDS)
def test_single_precision_is_that_of_teacher_forcing_and_logits_stay_the_models_own(search):
    model, given = TinyModel(V).eval(), []
    step = model.decode_step

    def remembering(*arguments):
        logits, cache, weights = step(*arguments)
        given.append((logits, logits.clone()))
        return logits, cache, weights

    model.decode_step = remembering
    source, lengths = sources()
    found = find(search, model, source, lengths)
    assert all(torch.equal(logits, before) for logits, before in given)
    model.decode_step = step
    for row, length, hypotheses in zip(source, lengths, found, strict=True):
        for each in hypotheses:
            assert each.log_prob == pytest.approx(model.log_prob(row[:length], each.tokens)[0], abs=1e-4)


def test_weights_are_asked_of_a_model_that_has_none(model):
    class Bare:
        def start(self, source, lengths):
            return model.start(source, lengths)

        def decode_step(self, tokens, cache, need_weights=False):
            logits, cache, _ = model.decode_step(tokens, cache)
            return logits, cache, None

    source, lengths = sources()
    assert find(Greedy(max_length=3), Bare(), source, lengths)
    with pytest.raises(UserError, match="no attention"):
        find(Greedy(), Bare(), source, lengths, need_weights=True)
    with pytest.raises(UserError, match="no attention"):
        find(BeamSearch(coverage_penalty=0.1), Bare(), source, lengths)


@pytest.mark.parametrize(
    ("search", "options", "message"),
    [
        (Greedy, {"max_length": -1}, "min_length=0 must lie between 0 and max_length=-1"),
        (Greedy, {"min_length": 9, "max_length": 8}, "min_length=9"),
        (Greedy, {"max_ratio": 0.0}, "max_ratio"),
        (Greedy, {"max_ratio": float("nan")}, "max_ratio"),
        (Greedy, {"no_repeat_ngram": 0}, "no_repeat_ngram"),
        (Sampling, {"temperature": -1.0}, "temperature"),
        (Sampling, {"top_k": 0}, "top_k"),
        (Sampling, {"nbest": 0}, "nbest"),
        (BeamSearch, {"beam_size": 0}, "beam_size=0: must be at least 1"),
        (BeamSearch, {"beam_size": 2, "nbest": 3}, "nbest=3 must lie between 1 and beam_size=2"),
        (BeamSearch, {"length_penalty": float("nan")}, "length_penalty=nan: must be a number"),
        (BeamSearch, {"length_penalty": -0.1}, "length_penalty"),
        (BeamSearch, {"coverage_penalty": -0.1}, "coverage_penalty"),
    ],
)
def test_options_out_of_range_say_so(search, options, message):
    with pytest.raises(UserError, match=message):
        search(**options)


def test_searches_describe_themselves():
    assert BeamSearch(beam_size=3).to_spec() == {
        "class_path": "lightning_rnnattn.decoding.beam.BeamSearch",
        "init_args": {
            "max_length": 200,
            "max_ratio": None,
            "min_length": 0,
            "no_repeat_ngram": None,
            "beam_size": 3,
            "nbest": 1,
            "length_penalty": 0.6,
            "coverage_penalty": 0.0,
        },
    }


@pytest.mark.parametrize(
    "search",
    [Greedy(max_length=4), BeamSearch(max_length=4, beam_size=3), Sampling(max_length=4), Sampling(top_k=2)],
    ids=["greedy", "beam", "sampling", "top k"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_that_are_not_numbers_are_an_error(model, search, dtype):
    torch.nn.init.constant_(model.output.bias, torch.nan)
    with pytest.raises(UserError, match="its logits are not finite"):
        find(search, model.to(dtype), *sources())


@pytest.mark.parametrize("max_ratio", [None, float("inf"), 1e30])
def test_a_ratio_that_is_no_limit(max_ratio):
    assert Greedy(max_length=7, max_ratio=max_ratio).longest(torch.tensor([1, 9])).tolist() == [7, 7]
