import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn.ops import gated_scan, linear_scan, linear_scan_reference
from lightning_rnnattn.ops.scan import blocked, gated, native, scan

NO_COMPILER = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
DTYPES = [torch.float64, torch.float32]


@pytest.fixture(params=[pytest.param("native", marks=NO_COMPILER), "blocked"])
def path(request, monkeypatch):
    """Every way to compute a scan on this machine."""
    if request.param == "blocked":
        monkeypatch.setattr(native, "library", lambda: None)
    return request.param


def reference_gated(update, candidate, forget, start, reverse=False):
    """The equation, in the dtype of its arguments."""
    z = torch.sigmoid(update)
    if forget is not None:
        z = z / (z + torch.sigmoid(forget))
    g = torch.where(candidate >= 0, candidate + 0.5, torch.sigmoid(candidate))
    return linear_scan_reference(1 - z, z * g, start, reverse=reverse)


def inputs(B, T, D, dtype=torch.float64, scale=1.0):
    sizes = ((B, T, D), (B, T, D), (B, D))
    return [(scale * torch.randn(size, dtype=dtype)).requires_grad_() for size in sizes]


def compare(got, expected, leaves, **tolerance):
    """Values and gradients, under weights that tell all places apart."""
    torch.testing.assert_close(got, expected, **tolerance)
    weights = torch.linspace(-1, 1, got.numel(), dtype=got.dtype).view_as(got)
    torch.testing.assert_close(
        torch.autograd.grad((got * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
        **tolerance,
    )


def test_by_hand():
    a, b = torch.tensor([[2.0], [0.0], [-1.0]])[None], torch.tensor([[1.0], [3.0], [5.0]])[None]
    start = torch.tensor([[10.0]])
    assert linear_scan(a, b, start).flatten().tolist() == [21.0, 3.0, 2.0]
    assert linear_scan(a, b, start, reverse=True).flatten().tolist() == [7.0, 3.0, -5.0]
    assert linear_scan(a, b).flatten().tolist() == [1.0, 3.0, 2.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (2, 7, 1), (2, 37, 530), (1, 101, 3)], ids=str)
def test_equals_the_loop_in_value_and_gradient(path, dtype, reverse, shape):
    a, b, start = inputs(*shape, dtype=dtype, scale=0.5)  # of both signs, some beyond one
    tolerance = {} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    expected = linear_scan_reference(a, b, start, reverse=reverse)
    compare(linear_scan(a, b, start, reverse=reverse), expected, (a, b, start), **tolerance)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (2, 37, 530), (1, 101, 3)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 8.0])
@pytest.mark.parametrize("with_forget", [False, True])
def test_gated_equals_its_equation(path, reverse, shape, scale, with_forget):
    update, candidate, start = inputs(*shape, dtype=torch.float32, scale=scale)
    forget = (scale * torch.randn(shape)).requires_grad_() if with_forget else None
    gates = (update, candidate, forget, start)
    wide = [None if x is None else x.detach().double().requires_grad_() for x in gates]
    got, expected = gated_scan(*gates, reverse=reverse), reference_gated(*wide, reverse)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    weights = torch.linspace(-1, 1, got.numel()).view_as(got)
    for mine, exact in zip(
        torch.autograd.grad((got * weights).sum(), [x for x in gates if x is not None]),
        torch.autograd.grad((expected * weights.double()).sum(), [x for x in wide if x is not None]),
        strict=True,
    ):
        torch.testing.assert_close(mine.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("with_forget", [False, True])
def test_gated_in_double_precision_is_exact(path, with_forget):
    update, candidate, start = inputs(3, 20, 4)
    forget = torch.randn(3, 20, 4, dtype=torch.float64, requires_grad=True) if with_forget else None
    leaves = [x for x in (update, candidate, forget, start) if x is not None]
    compare(gated_scan(update, candidate, forget, start), reference_gated(update, candidate, forget, start), leaves)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_forget", [False, True])
def test_the_form_for_traces_equals_the_equation(with_forget, reverse):
    update, candidate, start = inputs(3, 20, 4)
    forget = torch.randn(3, 20, 4, dtype=torch.float64, requires_grad=True) if with_forget else None
    leaves = [x for x in (update, candidate, forget, start) if x is not None]
    got = gated.traceable_gated_scan(update, candidate, forget, start, reverse)
    compare(got, reference_gated(update, candidate, forget, start, reverse), leaves)
    stays = update.masked_fill(torch.arange(20)[:, None] >= 12, -torch.inf)
    h = gated.traceable_gated_scan(stays, candidate, forget, start, reverse=False)
    torch.testing.assert_close(h[:, 12:], h[:, 11:12].expand(-1, 8, -1))


@NO_COMPILER
def test_parts_of_a_projection_are_read_where_they_lie():
    projection = torch.randn(2, 9, 12, requires_grad=True)
    parts, start = projection.chunk(3, dim=-1), torch.zeros(2, 4)
    compare(gated_scan(*parts), reference_gated(*parts, start), projection, atol=1e-5, rtol=1e-5)
    skewed = torch.randn(9, 2, 4).transpose(0, 1)
    torch.testing.assert_close(gated_scan(skewed, skewed), gated_scan(skewed.contiguous(), skewed.contiguous()))


@pytest.mark.parametrize("forget", [None, 0.0, -500.0, 500.0])
def test_ends_of_the_gates(path, forget):
    update = torch.tensor([[-torch.inf], [500.0], [-torch.inf], [500.0], [0.0]])[None].requires_grad_()
    candidate = torch.tensor([[7.0], [-500.0], [3.0], [200.0], [0.0]])[None].requires_grad_()
    given = None if forget is None else torch.full_like(update, forget).requires_grad_()
    h = gated_scan(update, candidate, given, torch.tensor([[5.0]])).flatten().tolist()
    last = {None: 0.5, 0.0: 0.5, -500.0: 1.0, 500.0: 1 / 3}[forget]  # the candidate's share at the last step
    full = {None: 1.0, 0.0: 2 / 3, -500.0: 1.0, 500.0: 0.5}[forget]  # at the second and the fourth
    second = 5 * (1 - full)
    fourth = second * (1 - full) + full * 200.5
    expected = [5.0, second, second, fourth, fourth * (1 - last) + last * 0.5]
    assert h == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert h[0] == 5.0
    assert h[2] == h[1]  # the state stays, to the bit
    gated_scan(update, candidate, given, torch.tensor([[5.0]])).sum().backward()
    assert all(x.grad.isfinite().all() for x in (update, candidate, given) if x is not None)


@NO_COMPILER
def test_a_state_of_zero_stays_zero():
    h = gated_scan(torch.full((1, 4, 3), -torch.inf), torch.full((1, 4, 3), 1e6), torch.full((1, 4, 3), -1e6))
    assert not h.any()


@settings(max_examples=25)
@given(T=st.integers(1, 70), cut=st.integers(0, 70), seed=st.integers(0, 99))
def test_pieces_equal_the_whole(T, cut, seed):
    torch.manual_seed(seed)
    a, b, start = (x.detach() for x in inputs(2, T, 3))
    whole = linear_scan(a, b, start)
    cut = min(cut, T - 1)
    if cut:
        first = linear_scan(a[:, :cut], b[:, :cut], start)
        torch.testing.assert_close(torch.cat([first, linear_scan(a[:, cut:], b[:, cut:], first[:, -1])], 1), whole)
    sequential = linear_scan_reference(a, b, start)
    torch.testing.assert_close(blocked.scan(a, b, start, False), sequential)


def test_half_precision_is_rounded_once(path):
    a, b, start = (x.detach().bfloat16() for x in inputs(2, 300, 3, scale=0.5))
    h = linear_scan(a, b, start)
    assert h.dtype == torch.bfloat16
    exact = linear_scan_reference(a.float(), b.float(), start.float())
    torch.testing.assert_close(h, exact.bfloat16(), rtol=2**-7, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(linear_scan(a.float(), b.float(), start.float()), exact)


def test_long_memory_neither_overflows_nor_vanishes(path):
    T = 3000
    a = torch.full((1, T, 1), 0.1)  # the product of these is no float: a form that divides by it is lost
    h = linear_scan(a, torch.ones(1, T, 1))
    torch.testing.assert_close(h[0, -1, 0].item(), 1 / 0.9)


def test_operators_keep_to_their_contract():
    a, b, start = inputs(2, 5, 3, dtype=torch.float32)
    calls = [(scan.scan_op, (a, b, start, True))]
    if native.library() is not None:
        calls += [(gated.gated_op, (a, b, None, start, False)), (gated.gated_op, (a, b, a, start, True))]
    for operator, arguments in calls:
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


@NO_COMPILER
def test_a_second_derivative_is_refused():
    a, b, start = inputs(1, 3, 2)
    for function in (linear_scan, gated_scan):
        (grad,) = torch.autograd.grad(function(a.float(), b.float(), start=start.float()).sum(), b, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiable once"):
            grad.sum().backward()


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"forget is \(2, 1, 3\), update \(2, 6, 3\)"):
        gated_scan(torch.zeros(2, 6, 3), torch.zeros(2, 6, 3), torch.zeros(2, 1, 3))
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) and \(1, 3, 3\) do not fit"):
        linear_scan(torch.zeros(1, 2, 3), torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="at least 1"):
        gated_scan(torch.zeros(1, 0, 3), torch.zeros(1, 0, 3))
    with pytest.raises(ValueError, match=r"start \(2, 3\) does not fit"):
        linear_scan(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(2, 3))


@pytest.mark.parametrize("with_forget", [False, True])
@pytest.mark.parametrize("where", ["update", "candidate", "forget"])
def test_what_is_no_number_shows(path, where, with_forget):
    gates = {name: torch.zeros(1, 3, 2) for name in ("update", "candidate", "forget")}
    gates[where][0, 1, 0] = torch.nan
    h = gated_scan(*(gates[name] for name in ("update", "candidate")), gates["forget"] if with_forget else None)
    lost = with_forget or where != "forget"
    assert h[0, :, 0].isnan().tolist() == [False, lost, lost]
    assert not h[0, :, 1].isnan().any()


@pytest.mark.parametrize("shape", [(1, 5, 7), (5, 1, 7), (1, 1, 7), (5, 4, 1)])
def test_arrays_may_lie_in_memory_as_they_like(path, shape):
    update, candidate, forget = torch.randn(3, *shape)
    for dims in ((0, 1), (1, 2), (0, 2)):
        turned = [x.transpose(*dims) for x in (update, candidate, forget)]
        expected = gated_scan(*(x.clone(memory_format=torch.contiguous_format) for x in turned))
        assert torch.equal(gated_scan(*turned), expected)
