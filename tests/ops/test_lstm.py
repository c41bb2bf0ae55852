"""A step of an LSTM behind its products, against the equations in float64."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lightning_rnnattn.ops import native
from lightning_rnnattn.ops.lstm import lstm_cell


def equations(gates, c):
    i, f, g, o = gates.chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


@pytest.fixture(params=[True, False], ids=["compiled", "eager"])
def compiled(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(native, "load", lambda *_: None)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 33, 130])
def test_values_and_gradients(size, scale):
    gates = (scale * torch.randn(70, 4 * size)).requires_grad_()
    c = torch.randn(70, size, requires_grad=True)
    exact = [x.detach().double().requires_grad_() for x in (gates, c)]
    found, wanted = lstm_cell(gates, c), equations(*exact)
    grads = [torch.randn_like(x) for x in wanted]
    found += torch.autograd.grad(found, [gates, c], [grad.float() for grad in grads])
    wanted += torch.autograd.grad(wanted, exact, grads)
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=2e-6, rtol=2e-6)


def test_small_numbers_keep_their_digits():
    gates = torch.cat([torch.zeros(1, 16), torch.logspace(-7, -0.5, 8)[None].repeat(1, 2)], -1)
    h, c = lstm_cell(gates, torch.zeros(1, 8))
    for found, wanted in zip((h, c), equations(gates.double(), torch.zeros(1, 8).double()), strict=True):
        torch.testing.assert_close(found.double(), wanted, atol=0, rtol=2e-6)


@pytest.mark.usefixtures("compiled")
def test_infinite_and_not_a_number():
    gates = torch.randn(4, 80)
    gates[0] = float("inf")
    gates[1] = float("-inf")
    gates[2] = 1e30
    c = torch.randn(4, 20)
    for found, wanted in zip(lstm_cell(gates, c), equations(gates, c), strict=True):
        torch.testing.assert_close(found, wanted)
    gates[:, 3::20] = float("nan")
    assert all(x[:, 3].isnan().all() for x in lstm_cell(gates, c))


@pytest.mark.parametrize(
    ("gates", "c", "result"),
    [
        (torch.bfloat16, torch.float32, torch.float32),  # under autocast
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float32, torch.float32),
        (torch.float64, torch.float64, torch.float64),
    ],
)
def test_dtypes(gates, c, result):
    gates, c = torch.randn(3, 20).to(gates).requires_grad_(), torch.randn(3, 5).to(c).requires_grad_()
    found, wanted = lstm_cell(gates, c), equations(gates.double(), c.double())
    grads = torch.autograd.grad(sum(x.sum() for x in found), [gates, c])
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype is result
        torch.testing.assert_close(mine.double(), theirs, atol=torch.finfo(result).eps, rtol=torch.finfo(result).eps)
    for mine, theirs in zip(grads, torch.autograd.grad(sum(x.sum() for x in wanted), [gates, c]), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_rows_need_not_be_contiguous_and_are_left_alone():
    gates, c = torch.randn(24, 3).t(), torch.randn(6, 3).t()
    before = gates.clone()
    h, _ = lstm_cell(gates.requires_grad_(), c)
    torch.testing.assert_close(h, equations(gates, c)[0])
    assert torch.equal(gates, before)
    h.sum().backward()
    (wanted,) = torch.autograd.grad(equations(gates, c)[0].sum(), gates)
    torch.testing.assert_close(gates.grad, wanted)


@pytest.mark.parametrize("shape", [(1, 5), (5,)])
def test_a_cell_is_broadcast(shape):
    gates, c = torch.randn(3, 20), torch.randn(shape)
    for found, wanted in zip(lstm_cell(gates, c), equations(gates, c), strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_cell_that_does_not_fit_is_an_error():
    for shape in [(2, 5), (4, 5), (3, 4), (3, 6)]:
        with pytest.raises(RuntimeError):
            lstm_cell(torch.randn(3, 20), torch.randn(shape))


def test_transforms_and_tensors_without_memory():
    gates, c = torch.randn(4, 3, 20), torch.randn(4, 3, 5)
    torch.testing.assert_close(torch.vmap(lstm_cell)(gates, c), equations(gates, c))
    with FakeTensorMode():
        assert lstm_cell(torch.randn(3, 20), torch.randn(3, 5))[0].shape == (3, 5)
