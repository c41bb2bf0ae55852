from functools import partial

import pytest
import torch

from lightning_rnnattn import (
    LSTM,
    AdaptiveSpanAttention,
    AdditiveScore,
    Attention,
    AttentiveRNN,
    CosineScore,
    DotScore,
    Entmax15,
    GeneralScore,
    LuongDecoder,
    Residual,
    ScaledDotScore,
    Softmax,
    Sparsemax,
    UserError,
)
from lightning_rnnattn.ops import lengths_mask

SCORES = [AdditiveScore, CosineScore, DotScore, GeneralScore, ScaledDotScore]
B, T, S, D = 2, 4, 7, 6


def by_hand(scores, span, ramp, visible):
    """Weights as the equation reads, one query and key at a time."""
    weights = torch.zeros_like(scores)
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in scores.shape[:3])):
        position = scores.shape[3] - scores.shape[2] + t
        for j in range(scores.shape[3]):
            share = min(max((ramp + span[h] - abs(position - j)) / ramp, 0.0), 1.0)
            weights[b, h, t, j] = share * scores[b, h, t, j].exp() * visible[b, t, j]
        total = weights[b, h, t].sum()
        weights[b, h, t] /= total if total else 1.0
    return weights


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("score", SCORES)
def test_equation(score, num_heads, is_causal):
    attention = AdaptiveSpanAttention(D, D, score=score, num_heads=num_heads, window=6, ramp=3).double()
    torch.nn.init.uniform_(attention.log_span, 0.0, 1.5)
    query, key = (torch.randn(B, n, D, dtype=torch.float64) for n in (T, S))
    real = lengths_mask(torch.tensor([S, 2]))
    memory = attention.memory(key, mask=real)
    context, weights = attention(query, memory, is_causal=is_causal, need_weights=True)

    distance = torch.arange(S - T, S)[:, None] - torch.arange(S)
    visible = real[:, None] & (distance.abs() < 6) & (distance >= 0 if is_causal else True)
    scores = attention.score(attention.score.project_query(query), memory.key)
    expected = by_hand(scores, attention.span, 3, visible)
    torch.testing.assert_close(weights, expected)
    joined = torch.einsum("bhts,bshd->bthd", expected, key.unflatten(-1, (num_heads, -1))).flatten(-2)
    torch.testing.assert_close(context, attention.out_proj(joined))
    torch.testing.assert_close(attention(query, memory, is_causal=is_causal)[0], context)


@pytest.mark.parametrize("normalizer", [Softmax, Sparsemax, Entmax15])
def test_a_span_as_wide_as_the_window_changes_nothing(normalizer):
    plain = Attention(D, D, window=3, normalizer=normalizer)
    adaptive = AdaptiveSpanAttention(D, D, window=3, normalizer=normalizer)
    adaptive.load_state_dict(plain.state_dict(), strict=False)
    torch.nn.init.constant_(adaptive.log_span, 2.0)
    query, key = torch.randn(B, T, D), torch.randn(B, S, D)
    context, _ = adaptive(query, adaptive.memory(key), is_causal=True)
    torch.testing.assert_close(context, plain(query, plain.memory(key), is_causal=True)[0])


def test_a_window_of_span_and_ramp_gives_the_same():
    wide, narrow = (AdaptiveSpanAttention(D, D, window=w, ramp=2) for w in (50, 5))
    torch.nn.init.constant_(wide.log_span, 1.0)  # 2.7 + 2 positions
    narrow.load_state_dict(wide.state_dict())
    query, key = torch.randn(B, 20, D), torch.randn(B, 20, D)
    contexts = [each(query, each.memory(key), is_causal=True)[0] for each in (wide, narrow)]
    torch.testing.assert_close(*contexts)


def test_gradients_reach_the_span_and_are_finite_at_its_edge():
    attention = AdaptiveSpanAttention(D, D, num_heads=2, window=6, ramp=2).double()
    torch.nn.init.constant_(attention.log_span, 0.0)  # a share of exactly 0 at distance 3
    query, key = (torch.randn(B, n, D, dtype=torch.float64, requires_grad=True) for n in (T, S))

    def run(query, key, log_span):
        arguments = (query, attention.memory(key))
        return torch.func.functional_call(attention, {"log_span": log_span}, arguments, {"is_causal": True})[0]

    attention(query, attention.memory(key), is_causal=True)[0].square().sum().backward()
    assert attention.log_span.grad.isfinite().all()
    assert attention.log_span.grad.all()
    inner = torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True)  # off the kinks
    torch.autograd.gradcheck(run, (query, key, inner))


def test_pieces_and_steps_equal_the_whole():
    attention = partial(AdaptiveSpanAttention, score=AdditiveScore, window=5, ramp=3)
    network = AttentiveRNN(D, partial(LSTM, hidden_size=D), attention, Residual).double()
    x = torch.randn(B, 11, D, dtype=torch.float64)
    whole, _ = network(x)
    past, pieces = None, []
    for piece in x.split(4, dim=1):
        output, past = network(piece, past)
        pieces.append(output)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    _, cache = network.prefill(x[:, :3], torch.tensor([3, 3]))
    for t in range(3, 11):
        output, cache = network.step(x[:, t], cache)
        torch.testing.assert_close(output, whole[:, t])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "window: null"),
        ({"window": 4, "ramp": 0}, "ramp=0"),
        ({"window": 4, "span_penalty": -1.0}, "span_penalty=-1.0"),
    ],
)
def test_settings_out_of_range_say_so(options, message):
    with pytest.raises(UserError, match=message):
        AdaptiveSpanAttention(D, D, **options)


def test_decoders_have_no_positions_to_measure_a_span_in():
    with pytest.raises(UserError, match="no positions in common"):
        LuongDecoder(D, D, attention=partial(AdaptiveSpanAttention, score=AdditiveScore, window=4))
