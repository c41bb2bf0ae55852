import pytest
import torch

from lightning_rnnattn.ops.logsumexp import log_normalizer


@pytest.mark.parametrize("shape", [(7,), (3, 5, 4), (9, 2, 8000), (3, 70_001)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_logsumexp(shape, dtype):
    x = torch.randn(shape, dtype=dtype) * 50
    x[..., 1] = float("-inf")
    torch.testing.assert_close(log_normalizer(x), x.logsumexp(-1))
    given = x.clone()
    log_normalizer(x)
    assert torch.equal(x, given)
