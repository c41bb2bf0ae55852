"""Every score: its equation by hand, its heads, and its fused path against the plain one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn import AdditiveScore, CosineScore, DotScore, GeneralScore, ScaledDotScore, UserError
from lightning_rnnattn.ops import combine_masks, masked_softmax

SCORES = [AdditiveScore, CosineScore, DotScore, GeneralScore, ScaledDotScore]
B, T, S, D = 2, 3, 5, 4


def compare(score, query, key):
    return score(score.project_query(query), score.project_key(key))


def pair(score_class, **options):
    score = score_class(D, D, **options).double()
    return score, torch.randn(B, T, D, dtype=torch.float64), torch.randn(B, S, D, dtype=torch.float64)


def each_pair(function, query, key):
    """(B, 1, T, S) from a function of one query and one key."""
    rows = [[[function(q, k).item() for k in key[b]] for q in query[b]] for b in range(len(query))]
    return torch.tensor(rows, dtype=torch.float64).unsqueeze(1)


def test_additive_is_bahdanaus():
    score, query, key = pair(AdditiveScore, hidden_size=6)
    w, b, u, v = score.query_proj.weight, score.query_proj.bias, score.key_proj.weight, score.v[0]
    expected = each_pair(lambda s, h: v @ torch.tanh(w @ s + u @ h + b), query, key)
    torch.testing.assert_close(compare(score, query, key), expected)


def test_dot():
    score, query, key = pair(DotScore)
    torch.testing.assert_close(compare(score, query, key), each_pair(lambda s, h: s @ h, query, key))


def test_scaled_dot_with_and_without_projections():
    score, query, key = pair(ScaledDotScore)
    torch.testing.assert_close(compare(score, query, key), each_pair(lambda s, h: s @ h / math.sqrt(D), query, key))
    score, query, key = pair(ScaledDotScore, hidden_size=6)
    w, u = score.query_proj.weight, score.key_proj.weight
    expected = each_pair(lambda s, h: (w @ s) @ (u @ h) / math.sqrt(6), query, key)
    torch.testing.assert_close(compare(score, query, key), expected)


def test_general_is_luongs():
    score, query, key = pair(GeneralScore)
    expected = each_pair(lambda s, h: s @ score.key_proj.weight @ h, query, key)
    torch.testing.assert_close(compare(score, query, key), expected)


def test_cosine():
    score, query, key = pair(CosineScore, init_scale=7.0)
    expected = each_pair(lambda s, h: 7 * s @ h / (s.norm() * h.norm()), query, key)
    torch.testing.assert_close(compare(score, query, key), expected)


@pytest.mark.parametrize("score_class", SCORES)
def test_a_head_compares_its_own_share(score_class):
    score, query, key = pair(score_class, num_heads=2)
    both = compare(score, query, key)
    assert both.shape == (B, 2, T, S)
    # What lies in the second half of the projections is the second head's alone.
    halves = score.split_heads(torch.arange(4.0).reshape(1, 1, 4))
    assert halves.tolist() == [[[[0.0, 1.0]], [[2.0, 3.0]]]]
    if not list(score.parameters()):
        single = score_class(2, 2)
        torch.testing.assert_close(both[:, 1:], compare(single, query[..., 2:], key[..., 2:]))


@pytest.mark.parametrize("score_class", SCORES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@settings(max_examples=25, deadline=None)
@given(
    heads=st.sampled_from([1, 2]),
    queries=st.integers(1, 5),
    keys=st.integers(1, 7),
    is_causal=st.booleans(),
    window=st.none() | st.integers(1, 8),
    keep=st.none() | st.sampled_from([0.0, 0.3, 0.8]),
    seed=st.integers(0, 1000),
)
def test_attend_equals_softmax_of_scores(score_class, dtype, heads, queries, keys, is_causal, window, keep, seed):
    torch.manual_seed(seed)
    score = score_class(D, D, num_heads=heads).to(dtype)
    query, key = torch.randn(B, queries, D, dtype=dtype), torch.randn(B, keys, D, dtype=dtype)
    value = torch.randn(B, heads, keys, 3, dtype=dtype)
    inputs = [x.requires_grad_() for x in (query, key, value)] + list(score.parameters())
    mask = None if keep is None else torch.rand(B, 1, 1, keys) < keep
    grad = torch.randn(B, heads, queries, 3, dtype=dtype)

    fused = score.attend(
        score.project_query(query), score.project_key(key), value, mask=mask, is_causal=is_causal, window=window
    )
    visible = combine_masks(mask, queries, keys, is_causal=is_causal, window=window)
    plain = masked_softmax(compare(score, query, key), visible) @ value
    tolerance = {"atol": 1e-10, "rtol": 1e-8} if dtype == torch.float64 else {"atol": 2e-5, "rtol": 1e-4}
    torch.testing.assert_close(fused, plain, **tolerance)
    torch.testing.assert_close(
        torch.autograd.grad(fused, inputs, grad), torch.autograd.grad(plain, inputs, grad), **tolerance
    )
    if visible is not None:
        empty = ~visible.any(-1, keepdim=True).expand(B, heads, queries, 1)
        assert torch.equal(fused[empty.expand_as(fused)], torch.zeros_like(fused[empty.expand_as(fused)]))


@pytest.mark.parametrize("score_class", [DotScore, CosineScore, ScaledDotScore])
def test_unequal_sizes_suggest_a_score_that_takes_them(score_class):
    with pytest.raises(UserError, match=f"{score_class.__name__}.*4 and 6.*GeneralScore"):
        score_class(4, 6)


@pytest.mark.parametrize("score_class", [AdditiveScore, GeneralScore])
def test_unequal_sizes(score_class):
    score = score_class(4, 6)
    assert compare(score, torch.randn(B, T, 4), torch.randn(B, S, 6)).shape == (B, 1, T, S)


@pytest.mark.parametrize("score_class", SCORES)
def test_heads_must_divide_what_is_compared(score_class):
    with pytest.raises(UserError, match="num_heads=3 does not divide the 4 features"):
        score_class(4, 4, num_heads=3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_cosine_of_a_zero_vector_is_zero(dtype):
    score = CosineScore(D, D).to(dtype)
    query = torch.zeros(1, 1, D, dtype=dtype, requires_grad=True)
    scores = compare(score, query, torch.randn(1, S, D).to(dtype))
    scores.sum().backward()
    assert torch.equal(scores, torch.zeros_like(scores))
    assert query.grad.isfinite().all()
