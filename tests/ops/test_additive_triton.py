"""The Triton kernels, in Triton's interpreter on a CPU, or on the card where there is one (``-m gpu``).

Triton decides when it is imported whether it interprets, so that without a GPU these tests run in a process of
their own.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.additive import (
    additive_attention,
    additive_attention_reference,
    additive_key,
    additive_score,
    additive_score_reference,
    triton_path,
)
from lightning_rnnattn.ops.additive.paths import SETTING

INSIDE = os.environ.get("TRITON_INTERPRET") == "1"
TRITON = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(not INSIDE, reason="runs in the interpreter's process")),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
CASES = {
    "all": ((2, 2, 5, 7, 19, 4), {}),
    "several blocks": ((1, 1, 18, 40, 33, 17), {}),
    "one query": ((2, 1, 1, 70, 33, 5), {}),
    "causal": ((1, 2, 18, 40, 9, 3), {"is_causal": True}),
    "window": ((1, 2, 5, 7, 9, 3), {"window": 2}),
    "causal window": ((2, 1, 5, 35, 9, 3), {"is_causal": True, "window": 3}),
    "more queries than keys": ((1, 1, 7, 4, 9, 3), {"is_causal": True}),
    "mask": ((2, 2, 5, 7, 9, 3), {"mask": (2, 1, 5, 7)}),
    "padding": ((2, 2, 5, 7, 9, 3), {"mask": (2, 1, 1, 7), "is_causal": True}),
}


@pytest.mark.skipif(INSIDE, reason="is the interpreter's process")
@TRITON
def test_kernels_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.fixture(params=DEVICES)
def device(request, monkeypatch):
    monkeypatch.setenv(SETTING, "triton")
    new_empty = torch.Tensor.new_empty

    def poisoned(*args, **kwargs):
        made = new_empty(*args, **kwargs)
        return made.fill_(torch.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)
    return torch.device(request.param)


def inputs(sizes, device, scale=1.0):
    batch, heads, num_queries, num_keys, features, width = sizes
    shapes = ((batch, heads, num_queries, features), (batch, heads, num_keys, features))
    query, key = (scale * torch.randn(shape, device=device) for shape in shapes)
    value = torch.randn(batch, heads, num_keys, width, device=device)
    return [x.requires_grad_() for x in (query, key, value, torch.randn(heads, features, device=device))]


def compare(mine, theirs, arguments, exact):
    torch.testing.assert_close(mine.double(), theirs, atol=2e-5, rtol=1e-4)
    grad = torch.randn_like(theirs)
    pairs = zip(
        torch.autograd.grad(mine, arguments, grad.float()), torch.autograd.grad(theirs, exact, grad), strict=True
    )
    for a, b in pairs:
        torch.testing.assert_close(a.double(), b, atol=5e-5, rtol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("case", CASES)
def test_attention_equals_the_reference(device, case, scale):
    sizes, options = CASES[case]
    if "mask" in options:
        options = {**options, "mask": torch.rand(options["mask"], device=device) < 0.4}
    arguments = inputs(sizes, device, scale)
    exact = [x.detach().double().requires_grad_() for x in arguments]
    context, weights = additive_attention(*arguments, **options)
    assert weights is None
    compare(context, additive_attention_reference(*exact, **options)[0], arguments, exact)


@pytest.mark.parametrize("blocks", triton_path.BLOCKS)
def test_every_tile_gives_the_same(device, blocks, monkeypatch):
    monkeypatch.setenv(triton_path.BLOCKS_SETTING, "x".join(map(str, blocks)))
    arguments = inputs((1, 2, 35, 70, 19, 5), device)
    exact = [x.detach().double().requires_grad_() for x in arguments]
    context = additive_attention(*arguments, is_causal=True)[0]
    compare(context, additive_attention_reference(*exact, is_causal=True)[0], arguments, exact)


def test_an_unknown_tile_is_refused(device, monkeypatch):
    monkeypatch.setenv(triton_path.BLOCKS_SETTING, "17x3x1")
    with pytest.raises(UserError, match="LIGHTNING_RNNATTN_ADDITIVE_BLOCKS=17x3x1 is unknown: choose one of 16x32x8"):
        additive_attention(*inputs((1, 1, 2, 3, 4, 5), device))


@pytest.mark.parametrize("num_queries", [1, 18])
def test_scores_equal_the_reference(device, num_queries):
    query, key, _, v = inputs((2, 2, num_queries, 35, 19, 1), device)
    exact = [x.detach().double().requires_grad_() for x in (query, key, v)]
    compare(additive_score(query, key, v), additive_score_reference(*exact), (query, key, v), exact)


def test_backward_of_a_few_queries_at_a_time(device, monkeypatch):
    monkeypatch.setattr(triton_path, "_WORKSPACE", 1)
    arguments = inputs((1, 2, 35, 9, 9, 3), device)
    exact = [x.detach().double().requires_grad_() for x in arguments]
    options = {"is_causal": True, "mask": torch.rand(35, 9, device=device) < 0.7}
    context = additive_attention(*arguments, **options)[0]
    compare(context, additive_attention_reference(*exact, **options)[0], arguments, exact)


def test_dropout_is_the_same_in_backward(device, monkeypatch):
    monkeypatch.setattr(triton_path, "_WORKSPACE", 1)
    query, key, _, v = inputs((1, 2, 20, 9, 9, 1), device)
    value = torch.eye(9, device=device).expand(1, 2, 9, 9).clone().requires_grad_()
    torch.manual_seed(1)
    weights = additive_attention(query, key, value, v, dropout_p=0.4)[0]  # values of one each are the weights
    torch.manual_seed(1)
    assert torch.equal(additive_attention(query, key, value, v, dropout_p=0.4)[0], weights)
    full = additive_attention_reference(query, key, value, v)[0]
    kept = weights != 0
    assert 0.4 < kept.float().mean() < 0.8
    torch.testing.assert_close(weights[kept], full[kept] / 0.6, atol=1e-5, rtol=1e-4)
    grad = torch.randn_like(full)
    mine = torch.autograd.grad(weights, (query, key, v), grad)
    theirs = torch.autograd.grad(full * kept / 0.6, (query, key, v), grad)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=5e-5, rtol=1e-3)


def test_rows_with_nothing_to_attend_and_no_rows_at_all(device):
    arguments = inputs((2, 1, 3, 5, 9, 3), device)
    context, _ = additive_attention(*arguments, mask=torch.zeros(5, dtype=torch.bool, device=device))
    assert not context.any()
    assert not any(grad.any() for grad in torch.autograd.grad(context.sum(), arguments))
    for sizes in ((2, 1, 0, 5, 9, 3), (2, 1, 3, 0, 9, 3)):
        arguments = inputs(sizes, device)
        context, _ = additive_attention(*arguments)
        assert not context.any()
        assert not any(grad.any() for grad in torch.autograd.grad(context.sum(), arguments))


def test_operator_is_registered_in_full(device):
    query, key, value, v = (x.detach().flatten(0, 1).requires_grad_() for x in inputs((1, 2, 3, 4, 5, 3), device))
    arguments = (query, *additive_key(key), value, v.view(2, 5), None, None, -3, 4, 0.0)
    utilities = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(torch.ops.lightning_rnnattn.additive_attention.default, arguments, test_utils=utilities)


def test_autocast_keeps_float32_inside(device):
    query, key, value, v = (x.detach() for x in inputs((1, 2, 3, 4, 32, 3), device))
    plain = additive_attention(query, key, value, v)[0]
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.equal(additive_attention(query, key, value, v)[0], plain)
        half = additive_attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), v)[0]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain, atol=3e-2, rtol=3e-2)
