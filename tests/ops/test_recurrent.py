"""What recurrent cells do behind their products, and a layer over unequal lengths, against the equations in float64."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lightning_rnnattn.ops import native
from lightning_rnnattn.ops.recurrent import LayerWeights, gru_cell, lstm_cell, packed_layer, packed_layer_reference
from lightning_rnnattn.ops.recurrent.native import library


def lstm_equations(gates, c):
    i, f, g, o = gates.chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_equations(by_x, by_h, h):
    (r, z, n), (r_h, z_h, n_h) = by_x.chunk(3, dim=-1), by_h.chunk(3, dim=-1)
    r, z = (r + r_h).sigmoid(), (z + z_h).sigmoid()
    return ((1 - z) * (n + r * n_h).tanh() + z * h,)


def gru(by_x, by_h, h):
    return (gru_cell(by_x, by_h, h),)


CELLS = pytest.mark.parametrize(
    ("cell", "equations", "gates"),
    [(lstm_cell, lstm_equations, (4,)), (gru, gru_equations, (3, 3))],
    ids=["lstm", "gru"],
)


def arguments(gates, rows, size, scale=1.0, dtype=torch.float32):
    """Gates and the state before."""
    of_gates = [scale * torch.randn(*rows, number * size) for number in gates]
    return [x.to(dtype) for x in (*of_gates, torch.randn(*rows, size))]


@pytest.fixture(params=[True, False], ids=["compiled", "eager"])
def compiled(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(native, "load", lambda *_: None)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 33, 130])
@CELLS
def test_values_and_gradients(cell, equations, gates, size, scale):
    inputs = [x.requires_grad_() for x in arguments(gates, (70,), size, scale)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    found, wanted = cell(*inputs), equations(*exact)
    grads = [torch.randn_like(x) for x in wanted]
    found += torch.autograd.grad(found, inputs, [grad.float() for grad in grads])
    wanted += torch.autograd.grad(wanted, exact, grads)
    for mine, theirs in zip(found, wanted, strict=True):
        # A gate of 100 is off by a unit in its last place, and what multiplies it as large.
        torch.testing.assert_close(mine.double(), theirs, atol=2e-6 * max(1, scale), rtol=2e-6)


def test_small_numbers_keep_their_digits():
    gates = torch.cat([torch.zeros(1, 16), torch.logspace(-7, -0.5, 8)[None].repeat(1, 2)], -1)
    h, c = lstm_cell(gates, torch.zeros(1, 8))
    for found, wanted in zip((h, c), lstm_equations(gates.double(), torch.zeros(1, 8).double()), strict=True):
        torch.testing.assert_close(found.double(), wanted, atol=0, rtol=2e-6)


@pytest.mark.usefixtures("compiled")
@CELLS
def test_infinite_and_not_a_number(cell, equations, gates):
    inputs = arguments(gates, (4,), 20)
    inputs[0][0] = float("inf")
    inputs[0][1] = float("-inf")
    inputs[0][2] = 1e30
    for found, wanted in zip(cell(*inputs), equations(*inputs), strict=True):
        torch.testing.assert_close(found, wanted)
    inputs[0][:, 3::20] = float("nan")
    assert all(x[:, 3].isnan().all() for x in cell(*inputs))


@pytest.mark.parametrize(
    ("gates_dtype", "state_dtype", "result"),
    [
        (torch.bfloat16, torch.float32, torch.float32),  # under autocast
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float32, torch.float32),
        (torch.float64, torch.float64, torch.float64),
    ],
)
@CELLS
def test_dtypes(cell, equations, gates, gates_dtype, state_dtype, result):
    *of_gates, state = arguments(gates, (3,), 5)
    inputs = [x.to(gates_dtype).requires_grad_() for x in of_gates] + [state.to(state_dtype).requires_grad_()]
    found, wanted = cell(*inputs), equations(*(x.double() for x in inputs))
    grads = torch.autograd.grad(sum(x.sum() for x in found), inputs)
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype is result
        torch.testing.assert_close(mine.double(), theirs, atol=torch.finfo(result).eps, rtol=torch.finfo(result).eps)
    for mine, theirs in zip(grads, torch.autograd.grad(sum(x.sum() for x in wanted), inputs), strict=True):
        torch.testing.assert_close(mine, theirs)


@CELLS
def test_rows_need_not_be_contiguous_and_are_left_alone(cell, equations, gates):
    inputs = [x.t().contiguous().t().requires_grad_() for x in arguments(gates, (3,), 6)]
    before = [x.detach().clone() for x in inputs]
    found = torch.autograd.grad(cell(*inputs)[0].sum(), inputs)
    for mine, theirs in zip(found, torch.autograd.grad(equations(*inputs)[0].sum(), inputs), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert all(map(torch.equal, inputs, before))


@pytest.mark.usefixtures("compiled")
@CELLS
def test_second_derivatives(cell, equations, gates):
    def penalties(function, inputs):
        first = torch.autograd.grad(sum(x.sum() for x in function(*inputs)), inputs, create_graph=True)
        return torch.autograd.grad(sum(x.square().sum() for x in first), inputs)

    inputs = [x.requires_grad_() for x in arguments(gates, (3,), 17)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    for found, wanted in zip(penalties(cell, inputs), penalties(equations, exact), strict=True):
        torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5), (5,)])
@CELLS
def test_a_state_is_broadcast(cell, equations, gates, shape):
    *of_gates, _ = arguments(gates, (3,), 5)
    state = torch.randn(shape)
    for found, wanted in zip(cell(*of_gates, state), equations(*of_gates, state), strict=True):
        torch.testing.assert_close(found, wanted)


@CELLS
def test_a_state_that_does_not_fit_is_an_error(cell, equations, gates):
    *of_gates, _ = arguments(gates, (3,), 5)
    for shape in [(2, 5), (4, 5), (3, 4), (3, 6)]:
        with pytest.raises(RuntimeError):
            cell(*of_gates, torch.randn(shape))


@CELLS
def test_transforms_and_tensors_without_memory(cell, equations, gates):
    inputs = arguments(gates, (4, 3), 5)
    torch.testing.assert_close(torch.vmap(cell)(*inputs), equations(*inputs))
    with FakeTensorMode():
        assert cell(*arguments(gates, (3,), 5))[0].shape == (3, 5)


@pytest.mark.skipif(library() is None, reason="no C++ compiler")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("mode", "gates", "parts"), [("LSTM", 4, 2), ("GRU", 3, 1), ("RNN_TANH", 1, 1), ("RNN_RELU", 1, 1)]
)
def test_a_layer_is_its_reference(mode, gates, parts, reverse):
    size, sizes = 21, [4, 4, 3, 1]
    shapes = [(12, 5), (gates * size, 5), (gates * size, size), (gates * size,), (gates * size,), *[(4, size)] * parts]
    inputs = [(torch.randn(shape) / 2).requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in inputs]

    def results(function, x, *rest):
        output, after = function(mode, x, sizes, tuple(rest[4:]), LayerWeights(*rest[:4]), reverse)
        made = [output, *after]
        return made + list(torch.autograd.grad(sum(y.pow(3).sum() for y in made), [x, *rest]))

    for found, wanted in zip(results(packed_layer, *inputs), results(packed_layer_reference, *exact), strict=True):
        torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-4)
