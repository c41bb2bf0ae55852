"""Additive attention against its reference, on every path that this machine has."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_rnnattn.ops.additive import (
    additive_attention,
    additive_attention_reference,
    additive_key,
    additive_score,
    additive_score_reference,
    native,
)
from lightning_rnnattn.ops.additive.paths import SETTING

NO_COMPILER = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
KINDS = {
    "all": {},
    "padding": {"mask": "padding"},
    "any": {"mask": "any"},
    "causal": {"is_causal": True},
    "window": {"window": 2},
    "causal window": {"is_causal": True, "window": 3},
    "causal any": {"is_causal": True, "mask": "any"},
    "window of one": {"is_causal": True, "window": 1},
}


@pytest.fixture(params=[pytest.param("native", marks=NO_COMPILER), "blocked"])
def path(request, monkeypatch):
    monkeypatch.setenv(SETTING, request.param)
    torch.use_deterministic_algorithms(True)  # also fills uninitialised memory with NaN
    yield request.param
    torch.use_deterministic_algorithms(False)


def inputs(batch=2, heads=3, num_queries=5, num_keys=7, features=19, value_dim=4, dtype=torch.float32, scale=1.0):
    shapes = ((batch, heads, num_queries, features), (batch, heads, num_keys, features))
    query, key = (scale * torch.randn(shape) for shape in shapes)
    value, v = torch.randn(batch, heads, num_keys, value_dim), torch.randn(heads, features)
    return [x.to(dtype).requires_grad_() for x in (query, key, value, v)]


def options(kind, batch=2, num_queries=5, num_keys=7):
    chosen = dict(KINDS[kind])
    if chosen.get("mask") == "padding":
        chosen["mask"] = torch.arange(num_keys) < torch.tensor([0, 4][:batch])[:, None, None, None]
    elif "mask" in chosen:
        chosen["mask"] = torch.rand(batch, 1, num_queries, num_keys) < 0.4
    return chosen


def compare(arguments, chosen, *, atol):
    """Values and gradients against the reference in float64."""
    exact = [x.detach().double().requires_grad_() for x in arguments]
    context, weights = additive_attention(*arguments, **chosen, need_weights=True)
    expected, expected_weights = additive_attention_reference(*exact, **chosen, need_weights=True)
    tolerance = {"atol": atol, "rtol": atol}
    torch.testing.assert_close(context.double(), expected, **tolerance)
    torch.testing.assert_close(weights.double(), expected_weights, **tolerance)
    grad = torch.randn_like(expected)
    for mine, theirs in zip(
        torch.autograd.grad(context, arguments, grad.to(context.dtype)),
        torch.autograd.grad(expected, exact, grad),
        strict=True,
    ):
        torch.testing.assert_close(mine.double(), theirs, **tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 3e-5), (torch.bfloat16, 0.1)])
def test_values_and_gradients_equal_the_reference(path, kind, dtype, atol):
    if path == "native" and dtype == torch.float64:
        pytest.skip("the compiled loops are float32")
    compare(inputs(dtype=dtype), options(kind), atol=atol)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.tuples(*(st.integers(1, n) for n in (3, 3, 21, 21, 70))),
    is_causal=st.booleans(),
    window=st.none() | st.integers(1, 24),
    seed=st.integers(0, 1 << 16),
)
def test_every_size_and_reach(path, sizes, is_causal, window, seed):
    torch.manual_seed(seed)
    compare(inputs(*sizes), {"is_causal": is_causal, "window": window}, atol=1e-4)


@pytest.mark.parametrize("num_keys", [1, 14, 21])
@pytest.mark.parametrize("features", [5, 16, 69])
@pytest.mark.parametrize("reach", [{}, {"is_causal": True, "window": 3}])
def test_a_single_query_as_of_a_decoder(path, num_keys, features, reach):
    compare(inputs(num_queries=1, num_keys=num_keys, features=features), reach, atol=3e-5)


@pytest.mark.parametrize("num_queries", [0, 1, 3])
@pytest.mark.parametrize("num_keys", [0, 1, 3])
def test_empty_and_single_sequences(path, num_queries, num_keys):
    arguments = inputs(num_queries=num_queries, num_keys=num_keys)
    context, _ = additive_attention(*arguments)
    assert context.shape == (2, 3, num_queries, 4)
    context.sum().backward()
    if not num_keys:
        assert not context.any()
    assert all(x.grad.isfinite().all() for x in arguments)


@pytest.mark.parametrize(
    ("query", "key", "v"),
    [
        ((5, 8), (6, 8), (8,)),
        ((2, 5, 8), (2, 6, 8), (8,)),
        ((2, 5, 8), (6, 8), (8,)),
        ((2, 1, 5, 8), (3, 6, 8), (3, 8)),
    ],
)
def test_leading_dimensions_broadcast(path, query, key, v):
    query, key, v = torch.randn(query), torch.randn(key), torch.randn(v)
    expected = additive_score_reference(query, key, v)
    torch.testing.assert_close(additive_score(query, key, v), expected, atol=1e-5, rtol=1e-5)


def test_a_view_of_split_heads_is_no_trouble(path):
    query, key = (torch.randn(2, n, 3 * 8).unflatten(-1, (3, 8)).transpose(1, 2) for n in (4, 5))
    v = torch.randn(8, 3).t()
    torch.testing.assert_close(
        additive_score(query, key, v), additive_score_reference(query, key, v), atol=1e-5, rtol=0
    )


def test_a_row_with_nothing_to_attend_is_zero_in_value_and_gradient(path):
    arguments = inputs()
    mask = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    mask[0, :, 2] = False
    context, weights = additive_attention(*arguments, mask=mask, need_weights=True)
    assert not context[0, :, 2].any()
    assert not weights[0, :, 2].any()
    context.square().sum().backward()
    assert not arguments[0].grad[0, :, 2].any()
    assert arguments[0].grad[0, :, 1].any()


def test_padding_changes_nothing(path):
    query, key, value, v = inputs(batch=1)
    short, _ = additive_attention(query, key[:, :, :4], value[:, :, :4], v)
    padded, _ = additive_attention(query, key, value, v, mask=torch.arange(7) < 4)
    torch.testing.assert_close(short, padded)


def test_prepared_keys_are_keys(path):
    query, key, value, v = inputs(num_queries=1)
    grown = type(prepared := additive_key(key[:, :, :3]))(
        *(torch.cat(pair, -2) for pair in zip(prepared, additive_key(key[:, :, 3:]), strict=True))
    )
    raw, _ = additive_attention(query, key, value, v)
    once, _ = additive_attention(query, grown, value, v)
    assert torch.equal(raw, once)
    grads = [torch.autograd.grad(context.sum(), key)[0] for context in (raw, once)]
    assert torch.equal(*grads)


def test_dropout_draws_the_same_weights_again(path):
    arguments = inputs()
    grads = []
    for _ in range(2):
        torch.manual_seed(1)
        context, weights = additive_attention(*arguments, dropout_p=0.5, need_weights=True)
        torch.testing.assert_close(context, weights @ arguments[2])
        grads.append(torch.autograd.grad(context.sum(), arguments))
    assert (weights == 0).float().mean() > 0.2
    for first, second in zip(*grads, strict=True):
        assert torch.equal(first, second)


def test_numerical_gradients(monkeypatch):
    monkeypatch.setenv(SETTING, "blocked")
    arguments = inputs(batch=1, heads=2, num_queries=2, num_keys=3, features=3, value_dim=2, dtype=torch.float64)
    mask = torch.tensor([[True, False, True], [True, True, True]])
    assert torch.autograd.gradcheck(lambda *x: additive_attention(*x, mask=mask)[0], arguments)
    assert torch.autograd.gradcheck(lambda q, k, v: additive_score(q, k, v), [arguments[i] for i in (0, 1, 3)])


def test_the_result_does_not_depend_on_the_number_of_threads(path):
    arguments = inputs(num_queries=33, num_keys=29, features=70)
    threads, results = torch.get_num_threads(), []
    for count in (1, 3):
        torch.set_num_threads(count)
        score = additive_score(arguments[0], arguments[1], arguments[3])
        results.append([score, *torch.autograd.grad(score.cos().sum(), [arguments[i] for i in (0, 1, 3)])])
    torch.set_num_threads(threads)
    for one, many in zip(*results, strict=True):
        assert torch.equal(one, many)


def test_no_tensor_of_four_sizes_is_built(path):
    batch, num_queries, num_keys, features = 2, 24, 24, 1024
    query, key = (torch.randn(batch, n, features, requires_grad=True) for n in (num_queries, num_keys))
    v = torch.randn(features, requires_grad=True)
    with torch.profiler.profile(profile_memory=True) as profile:
        additive_score(query, key, v).sum().backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest < 4 * batch * num_queries * num_keys * features / 8
