"""What torch sees of the additive score: one operator, in autograd, autocast, compile and export."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.additive import additive_attention, additive_key, additive_score, blocked, native, paths


class Pool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query_proj, self.key_proj = nn.Linear(8, 16), nn.Linear(8, 16)
        self.v = nn.Parameter(torch.randn(2, 8))

    def forward(self, query, key):
        heads = [x.unflatten(-1, (2, -1)).transpose(1, 2) for x in (self.query_proj(query), self.key_proj(key), key)]
        return additive_attention(heads[0], additive_key(heads[1]), heads[2], self.v, is_causal=True)[0]


def test_operator_is_registered_in_full():
    query, key = torch.randn(4, 3, 5, requires_grad=True), torch.randn(4, 6, 5, requires_grad=True)
    v = torch.randn(2, 5, requires_grad=True)
    torch.library.opcheck(torch.ops.lightning_rnnattn.additive_score.default, (query, *additive_key(key), v, -3, 6))


def test_compiles_as_one_graph():
    module, query, key = Pool(), torch.randn(3, 4, 8), torch.randn(3, 6, 8)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(query, key), module(query, key))
    compiled(query, key).sum().backward()
    assert module.v.grad.any()


def test_exports_with_dynamic_sizes():
    module = Pool()
    sizes = {name: torch.export.Dim(name, min=2) for name in "bts"}
    shapes = ({0: sizes["b"], 1: sizes["t"]}, {0: sizes["b"], 1: sizes["s"]})
    exported = torch.export.export(module, (torch.randn(3, 4, 8), torch.randn(3, 6, 8)), dynamic_shapes=shapes)
    query, key = torch.randn(5, 7, 8), torch.randn(5, 9, 8)
    torch.testing.assert_close(exported.module()(query, key), module(query, key))


@pytest.mark.parametrize("setting", ["auto", "blocked"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_sums_in_float32(setting, dtype, monkeypatch):
    monkeypatch.setenv(paths.SETTING, setting)
    query, key, v = (
        torch.randn(2, 3, 64).to(dtype),
        torch.randn(2, 5, 64).to(dtype),
        torch.randn(64, requires_grad=True),
    )
    plain = additive_score(query.float(), key.float(), v)
    with torch.autocast("cpu", dtype):
        assert torch.equal(additive_score(query, key, v), plain.to(dtype))
        assert torch.equal(additive_score(query.float(), key.float(), v), plain)
    assert torch.autograd.grad(plain.sum(), v)[0].dtype == torch.float32


def test_a_second_derivative_is_refused(monkeypatch):
    monkeypatch.setenv(paths.SETTING, "blocked")
    query = torch.randn(2, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(
        additive_score(query, torch.randn(4, 3), torch.randn(3)).sum(), query, create_graph=True
    )
    with pytest.raises(RuntimeError, match="differentiable once"):
        grad.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_small_work_takes_the_formula_and_agrees_with_the_paths(monkeypatch, dtype):
    query, key, v = (torch.randn(*shape).to(dtype) for shape in ((2, 3, 4, 8), (2, 3, 5, 8), (3, 8)))
    assert paths.is_small(query, key)
    assert not paths.is_small(query.expand(100, 2, 3, 4, 8), key.repeat(1, 1, 10, 1))
    plain = additive_score(query, additive_key(key), v)
    monkeypatch.setenv(paths.SETTING, "blocked")
    assert not paths.is_small(query, key)
    torch.testing.assert_close(plain, additive_score(query, key, v))


@pytest.mark.parametrize(
    ("query", "key", "v"),
    [((3, 4), (3, 5), (4,)), ((3, 4), (3, 4), (5,)), ((2, 3, 4), (2, 3, 4), (3, 4)), ((3, 4),) * 3],
)
def test_shapes_that_do_not_fit_are_named(query, key, v):
    with pytest.raises(ValueError, match="do not fit"):
        additive_score(torch.randn(query), torch.randn(key), torch.randn(v))


def test_path_is_a_function_of_dtype_device_and_setting(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.delenv(paths.SETTING, raising=False)
    assert paths.choose(torch.float64, cpu) is blocked
    assert paths.choose(torch.float32, cpu) is (blocked if native.library() is None else native)
    assert paths.choose(torch.float32, torch.device("mps")) is blocked
    monkeypatch.setenv(paths.SETTING, "blocked")
    assert paths.choose(torch.float32, cpu) is blocked
    monkeypatch.setenv(paths.SETTING, "triton")
    with pytest.raises(UserError, match="triton cannot run on cpu"):
        paths.choose(torch.float32, cpu)
    monkeypatch.setenv(paths.SETTING, "fast")
    with pytest.raises(UserError, match="choose auto"):
        paths.choose(torch.float32, cpu)


PROGRAM = """
import warnings, torch
from lightning_rnnattn.ops.additive import additive_score, native
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    score = additive_score(torch.ones(2, 3), torch.zeros(4, 3), torch.ones(3))
    print(score.sum().item(), native.library() is None, len(caught))
"""


@pytest.mark.parametrize(
    ("compiler", "expected"), [(None, "True 0"), ("echo broken >&2; exit 1", "True 1"), ('exec c++ "$@"', "False 0")]
)
def test_a_machine_without_a_compiler_works(tmp_path, compiler, expected):
    if expected.startswith("False") and native.library() is None:
        pytest.skip("no C++ compiler")
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": str(tmp_path)}
    if compiler is not None:
        (tmp_path / "c++").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{compiler}\n")
        (tmp_path / "c++").chmod(0o755)
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    score, rest = done.stdout.split(maxsplit=1)
    assert float(score) == pytest.approx(8 * 3 * 0.76159416)
    assert rest.strip() == expected
    assert any((tmp_path / "lightning_rnnattn").glob("*.so")) == expected.startswith("False")
