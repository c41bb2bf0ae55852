"""Additive attention step by step, against the reference for all queries at once in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn.ops.additive import additive_attention_reference, additive_key
from lightning_rnnattn.ops.additive.paths import SETTING
from lightning_rnnattn.ops.additive_steps import AdditiveSteps, native

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")

B, H, T, K, S, D, V = 3, 2, 4, 2, 7, 19, 21


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def inputs(batch=B, heads=H, steps=T, queries=K, keys=S, features=D, values=V, scale=1.0):
    """Queries (B, H, T·K, D), keys, values and v."""
    shapes = ((batch, heads, steps * queries, features), (batch, heads, keys, features), (batch, heads, keys, values))
    query, key, value = (torch.randn(shape) for shape in shapes)
    return [x.requires_grad_() for x in (scale * query, scale * key, value, torch.randn(heads, features))]


def padding(*lengths, keys=S):
    return (torch.arange(keys) < torch.tensor(lengths)[:, None])[:, None, None]


def by_steps(query, key, value, v, mask=None, num_queries=K):
    """All contexts (B, H, T·K, V)."""
    num_steps = query.shape[2] // num_queries
    attend = AdditiveSteps(additive_key(key), value, v, mask, num_steps, num_queries)
    return torch.cat([attend(each) for each in query.split(num_queries, dim=2)], dim=2)


def compare(arguments, mask=None, num_queries=K, atol=3e-5):
    exact = [x.detach().double().requires_grad_() for x in arguments]
    context = by_steps(*arguments, mask, num_queries)
    expected, _ = additive_attention_reference(*exact, mask=mask)
    grad = torch.randn_like(expected)
    found = [context, *torch.autograd.grad(context, arguments, grad.float())]
    for mine, theirs in zip(found, [expected, *torch.autograd.grad(expected, exact, grad)], strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=atol, rtol=atol)
    with torch.no_grad():
        assert torch.equal(by_steps(*arguments, mask, num_queries), context)


@pytest.mark.parametrize("mask", [None, padding(S, 3, 1), padding(0, S, 0), torch.rand(B, 1, 1, S) < 0.5], ids=str)
def test_values_and_gradients_equal_the_reference(mask):
    compare(inputs(), mask)


@settings(deadline=None, max_examples=60)
@given(sizes=st.tuples(*(st.integers(1, n) for n in (3, 3, 4, 3, 20, 70, 70))), seed=st.integers(0, 1 << 16))
def test_every_size(sizes, seed):
    torch.manual_seed(seed)
    compare(inputs(*sizes), torch.rand(sizes[0], 1, 1, sizes[4]) < 0.7, num_queries=sizes[3], atol=1e-4)


@pytest.mark.parametrize("scale", [12.0, 40.0])
def test_sums_that_no_product_holds(scale):
    query, key, value, v = inputs()
    with torch.no_grad():
        key += scale
        query[:, :, ::2] -= scale  # such as q = -40, k = 41; others are small or saturate
        query[:, :, 1::2] += scale
    compare([query, key, value, v], padding(S, 3, 1), atol=1e-4)


def test_a_query_that_sees_nothing_gives_and_gets_zero():
    query, key, value, v = inputs()
    with torch.no_grad():
        value[1] = float("nan")  # nothing hides behind a mask
    context = by_steps(query, key, value, v, padding(S, 0, 3))
    assert not context[1].any()
    for grad in torch.autograd.grad(context.sum(), [query, key, value]):
        assert not grad[1].any()
        assert grad.isfinite().all()


@pytest.mark.parametrize("place", [0, 1])
def test_nan_is_not_hidden(place):
    arguments = inputs()
    with torch.no_grad():
        arguments[place][1, 0, 0, 0] = float("nan")
    context = by_steps(*arguments)
    assert context[1, 0, 0].isnan().all()
    assert context[0].isfinite().all()


def test_gradients_of_some_leaves_or_steps_leave_no_trace():
    query, key, value, v = leaves = inputs()
    context = by_steps(*leaves)
    torch.autograd.grad(context.sum(), query, retain_graph=True)
    torch.autograd.grad(context[:, :, K : 2 * K].sum(), leaves, retain_graph=True)
    again = torch.autograd.grad(context.sum(), leaves, retain_graph=True)
    torch.testing.assert_close(again, torch.autograd.grad(by_steps(*leaves).sum(), leaves), atol=0, rtol=0)
    middle, _ = additive_attention_reference(query[:, :, K : 2 * K], key, value, v)
    torch.testing.assert_close(
        torch.autograd.grad(context[:, :, K : 2 * K].sum(), [key, value, v]),
        torch.autograd.grad(middle.sum(), [key, value, v]),
        atol=3e-5,
        rtol=3e-5,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mixed", [True, False])  # as autocast leaves them, values and v in float32; or all alike
def test_half_precision_is_computed_in_float32(dtype, mixed):
    mask = padding(S, 3, 0)
    query, key, value, v = (x.detach() for x in inputs())
    query, key = query.to(dtype), key.to(dtype)
    value, v = (value, v) if mixed else (value.to(dtype), v.to(dtype))
    arguments = [x.requires_grad_() for x in (query, key, value, v)]
    exact = [x.detach().double().requires_grad_() for x in arguments]
    context = by_steps(*arguments, mask)
    expected, _ = additive_attention_reference(*exact, mask=mask)
    assert context.dtype is value.dtype
    grad = torch.randn_like(expected).to(value.dtype)
    found = [context, *torch.autograd.grad(context, arguments, grad)]
    wanted = [expected, *torch.autograd.grad(expected, exact, grad.double())]
    for mine, theirs, like in zip(found, wanted, [value, *arguments], strict=True):
        assert mine.dtype is like.dtype
        # Rounded once: to the result's own precision.
        eps = torch.finfo(like.dtype).eps
        torch.testing.assert_close(mine.double(), theirs, atol=max(eps, 3e-5), rtol=max(eps, 3e-5))


def test_fewer_steps_than_foreseen():
    query, key, value, v = inputs(steps=2)
    attend = AdditiveSteps(additive_key(key), value, v, None, 5, K)
    context = torch.cat([attend(each) for each in query.split(K, dim=2)], dim=2)
    torch.testing.assert_close(
        torch.autograd.grad(context.square().sum(), [query, key, value, v]),
        torch.autograd.grad(by_steps(query, key, value, v).square().sum(), [query, key, value, v]),
    )


def test_a_second_derivative_is_refused():
    query, key, value, v = inputs()
    (grad,) = torch.autograd.grad(by_steps(query, key, value, v).square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(grad.square().sum(), [key, v])


def test_what_the_loops_take(monkeypatch):
    _, key, value, v = inputs()
    assert AdditiveSteps.serves(additive_key(key), value, v)
    assert not AdditiveSteps.serves(additive_key(key.double()), value.double(), v.double())
    assert AdditiveSteps.serves(additive_key(key.bfloat16()), value.bfloat16(), v)  # as under autocast
    assert not AdditiveSteps.serves(additive_key(key), value.double(), v)
    assert not AdditiveSteps.serves(additive_key(key[:, :, :0]), value[:, :, :0], v)
    monkeypatch.setenv(SETTING, "blocked")
    assert not AdditiveSteps.serves(additive_key(key), value, v)


def test_a_query_and_a_mask_for_the_whole_batch():
    query, key, value, v = (x.detach() for x in inputs(steps=1))
    one, mask = query[:1], padding(3)
    expected = by_steps(one.expand_as(query), key, value, v, mask.expand(B, -1, -1, -1))
    torch.testing.assert_close(by_steps(one, key, value, v, mask), expected)


def test_what_does_not_fit_is_an_error():
    query, key, value, v = (x.detach() for x in inputs(steps=1))
    for wrong in (query[:2], query[..., 1:], query[:, :1, :, 1:]):
        with pytest.raises((RuntimeError, ValueError)):
            by_steps(wrong, key, value, v)
    for mask in (padding(3, 2), padding(3, 3, 3, keys=S + 1), padding(3, 3, 3).float()):
        with pytest.raises((RuntimeError, ValueError)):
            by_steps(query, key, value, v, mask)
    for others in ((key[:, :, 1:], value, v), (key, value, v[:, 1:]), (key, value, torch.cat([v, v]))):
        with pytest.raises(ValueError, match="they must be"):
            by_steps(query, *others)
