import pytest
import torch

from lightning_rnnattn.ops.topk import top_k


@pytest.mark.parametrize("size", [3, 1023, 1024, 5000, 8192, 8193])
@pytest.mark.parametrize("k", [1, 3])
def test_equals_topk(size, k):
    x = torch.randn(4, 3, size)
    x[0, 0, -1] = 99.0  # among those that fill no block
    x[1] = x[1].round()  # ties
    x[2, :, 2:] = float("-inf")
    values, index = top_k(x, k)
    torch.testing.assert_close(values, x.topk(k).values, rtol=0, atol=0)
    torch.testing.assert_close(x.gather(-1, index), values, rtol=0, atol=0)
    assert all(len(set(row.tolist())) == k for row in index.flatten(0, 1))
