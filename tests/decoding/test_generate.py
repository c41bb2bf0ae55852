from functools import partial

import pytest
import torch

from lightning_rnnattn import (
    LSTM,
    AdditiveScore,
    Attention,
    LanguageModel,
    MinGRU,
    MinLSTM,
    TokenEmbedding,
    UserError,
    generate,
)
from lightning_rnnattn.decoding.filters import keep_top_k, keep_top_p
from lightning_rnnattn.decoding.generate import choose

V = 9


@pytest.fixture(params=[LSTM, MinGRU, MinLSTM])
def model(request):
    attention = partial(Attention, score=AdditiveScore, window=4)
    embedding = partial(TokenEmbedding, embedding_size=8)
    model = LanguageModel(V, embedding, rnn=request.param, attention=attention, dropout=0.5).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def prompts():
    return [torch.randint(V, (n,)) for n in (3, 1, 6)]


def test_greedy_takes_the_most_likely_each_time(model):
    [prompt, *_] = prompts()
    [new] = generate(model, [prompt], max_new_tokens=5, temperature=0)
    text = prompt.tolist()
    for token in new:
        assert token == model.eval()(torch.tensor([text]))[0][0, -1].argmax()
        text.append(token)
    assert len(new) == 5


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": 4}, {"top_p": 0.8, "temperature": 0.7}])
def test_batched_equals_one_by_one(model, options):
    texts = prompts()
    together = generate(model, texts, max_new_tokens=20, seed=5, **options)
    alone = [generate(model, [text], max_new_tokens=20, seed=5 + i, **options)[0] for i, text in enumerate(texts)]
    assert together == alone


def test_the_seed_alone_decides(model):
    texts = prompts()
    first = generate(model, texts, max_new_tokens=20, seed=1)
    state = torch.get_rng_state()
    torch.rand(3)
    assert generate(model, texts, max_new_tokens=20, seed=1) == first
    assert generate(model, texts, max_new_tokens=20, seed=2) != first
    torch.set_rng_state(state)
    generate(model, texts, max_new_tokens=1)
    assert torch.equal(torch.get_rng_state(), state)  # a callback that samples does not disturb the training


def test_the_mode_of_every_part_is_left_as_it_was(model):
    model.train()
    model.core.eval()
    generate(model, prompts(), max_new_tokens=1)
    assert model.training
    assert not model.core.training


def test_a_text_ends_with_the_stop_token(model):
    texts = prompts()
    free = generate(model, texts, max_new_tokens=30, seed=0)
    stop = free[0][4]
    stopped = generate(model, texts, max_new_tokens=30, seed=0, stop_id=stop)
    for long, short in zip(free, stopped, strict=True):
        end = long.index(stop) + 1 if stop in long else len(long)
        assert short == long[:end]


@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_not_numbers_are_an_error(model, temperature):
    torch.nn.init.constant_(next(model.output.parameters()), torch.nan)
    with pytest.raises(UserError, match="its logits are not finite"):
        generate(model, prompts(), max_new_tokens=2, temperature=temperature)


def test_samples_follow_the_distribution():
    logits = torch.tensor([1.0, 2.0, 0.0, -1.0])
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    drawn = choose(logits.expand(10_000, 4), uniform.double(), temperature=0.5)
    share = torch.bincount(drawn, minlength=4) / 10_000
    torch.testing.assert_close(share, (logits / 0.5).softmax(0), atol=2e-4, rtol=0)


def test_the_ends_of_the_unit_interval_draw_tokens_that_are_allowed():
    logits = torch.tensor([[1.0, -torch.inf, 0.0, -torch.inf]])
    assert choose(logits, torch.tensor([0.0]).double()) == 0
    assert choose(logits, torch.tensor([1.0 - 2**-53], dtype=torch.float64)) == 2


def test_filters_by_hand():
    logits = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    kept = lambda x: (x > -torch.inf)[0].tolist()  # noqa: E731
    assert kept(keep_top_k(logits, 2)) == [True, True, False, False]
    assert kept(keep_top_k(logits, 9)) == [True] * 4
    assert kept(keep_top_p(logits, 0.5)) == [True, False, False, False]
    assert kept(keep_top_p(logits, 0.51)) == [True, True, False, False]
    assert kept(keep_top_p(logits, 1e-9)) == [True, False, False, False]
    assert kept(keep_top_p(logits, 1.0)) == [True] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
    ],
)
def test_settings_out_of_range_say_so(model, options, message):
    with pytest.raises(UserError, match=message):
        generate(model, prompts(), **{"max_new_tokens": 1, **options})
    with pytest.raises(UserError, match="prompt"):
        generate(model, [torch.tensor([], dtype=torch.long)], max_new_tokens=1)
