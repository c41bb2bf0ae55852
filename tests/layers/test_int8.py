"""A linear layer in whole numbers."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from lightning_rnnattn import UserError
from lightning_rnnattn.layers import Int8Linear

torch.manual_seed(0)
SIZES = [(1, 1, 1), (3, 7, 5), (17, 33, 77), (64, 128, 1000)]


def reference(linear, x):
    """The equation in double precision."""
    weight, x = linear.weight.detach().double(), x.double()
    c = weight.abs().amax(-1, keepdim=True) / 127
    s = x.abs().amax(-1, keepdim=True) / 63
    whole = (x.float() / s.float()).round().double() @ (weight.float() / c.float()).round().double().T
    return whole * s * c.squeeze(-1) + (0 if linear.bias is None else linear.bias.detach().double())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "size", "out"), SIZES)
def test_it_is_its_equation(rows, size, out, bias):
    linear = nn.Linear(size, out, bias=bias)
    x = 3 * torch.randn(rows, size)
    torch.testing.assert_close(Int8Linear(linear)(x).double(), reference(linear, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "size", "out"), SIZES)
def test_it_is_as_near_the_layer_as_rounding_allows(rows, size, out):
    linear, x = nn.Linear(size, out), torch.randn(rows, size)
    s, c = x.abs().amax(-1, keepdim=True) / 63, linear.weight.abs().amax(-1) / 127
    bound = x.abs().sum(-1, keepdim=True) * c / 2 + linear.weight.abs().sum(-1) * s / 2 + size * s * c / 4
    assert ((Int8Linear(linear)(x) - linear(x)).abs() <= bound * 1.0001 + 1e-6).all()


def test_a_row_gives_the_same_alone_and_shapes_and_dtypes_stay():
    layer, x = Int8Linear(nn.Linear(40, 90)), torch.randn(3, 5, 40)
    together = layer(x)
    assert together.shape == (3, 5, 90)
    for row, expected in zip(x.flatten(0, 1), together.flatten(0, 1), strict=True):
        assert torch.equal(layer(row), expected)
    assert layer(x.double()).dtype is torch.float64
    assert layer(x.bfloat16()).dtype is torch.bfloat16
    assert layer(x[:0]).shape == (0, 5, 90)


def test_rows_and_weights_of_zeros_and_what_is_not_finite():
    linear = nn.Linear(6, 4)
    linear.weight.data[1] = 0
    layer = Int8Linear(linear)
    assert torch.equal(layer(torch.zeros(2, 6)), linear.bias.expand(2, 4))
    assert torch.equal(layer(torch.randn(2, 6))[:, 1], linear.bias[1].expand(2))
    x = torch.ones(2, 6)
    x[0, 3] = float("nan")
    assert layer(x)[0].isnan().all()
    assert layer(x)[1].isfinite().all()


EXTREMES = """
import torch
from lightning_rnnattn.layers import Int8Linear
linear = torch.nn.Linear(512, 3, bias=False)
linear.weight.data.fill_(1.0)[1].neg_()
print(Int8Linear(linear)(torch.ones(2, 512)).tolist())
"""


@pytest.mark.parametrize("isa", ["SSE41", "AVX2", "AVX512_CORE", "DEFAULT"])
def test_all_processors_give_the_same(isa):
    """Sums of 16 bits, where there is no VNNI, do not overflow (oneDNN takes the instructions that it is told to)."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
    done = subprocess.run([sys.executable, "-c", EXTREMES], env=environment, capture_output=True, text=True, check=True)
    found = torch.tensor(eval(done.stdout))
    torch.testing.assert_close(found, torch.tensor([[512.0, -512.0, 512.0]] * 2))


def test_a_layer_elsewhere_is_refused():
    with pytest.raises(UserError, match="run on a CPU, and the layer is on meta"):
        Int8Linear(nn.Linear(3, 4, device="meta"))
