import pytest
import torch

from lightning_rnnattn.ops import native
from lightning_rnnattn.ops.topk import top_k


@pytest.mark.parametrize("size", [3, 127, 128, 131, 132, 5000, 8193])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equals_topk(size, k, compiled, dtype, monkeypatch):
    if not compiled:
        monkeypatch.setattr(native, "load", lambda *_: None)
    x = torch.randn(4, 3, size, dtype=dtype)
    x[0, 0, -1] = 99.0  # among those that fill no block
    x[1] = x[1].round()  # ties
    x[2, :, 2:] = float("-inf")
    values, index = top_k(x, k)
    torch.testing.assert_close(values, x.topk(k).values, rtol=0, atol=0)
    torch.testing.assert_close(x.gather(-1, index), values, rtol=0, atol=0)
    assert all(len(set(row.tolist())) == k for row in index.flatten(0, 1))


def test_as_many_as_there_are_in_order():
    x = torch.randn(5, 40)
    values, index = top_k(x, 40)
    torch.testing.assert_close(values, x.sort(descending=True).values, rtol=0, atol=0)
    assert torch.equal(index.sort().values, torch.arange(40).expand(5, 40))


def test_rows_need_not_be_contiguous_and_may_be_none():
    x = torch.randn(1000, 6)
    values, index = top_k(x.t(), 4)
    torch.testing.assert_close(values, x.topk(4, dim=0).values.t(), rtol=0, atol=0)
    assert torch.equal(x.t().gather(-1, index), values)
    assert top_k(torch.zeros(0, 9), 2)[1].shape == (0, 2)


def test_of_equal_numbers_each_once():
    _, index = top_k(torch.zeros(2, 300), 64)
    assert all(len(set(row.tolist())) == 64 for row in index)


def test_more_than_there_are_is_an_error():
    with pytest.raises(RuntimeError, match="out of range"):
        top_k(torch.zeros(2, 3), 4)
