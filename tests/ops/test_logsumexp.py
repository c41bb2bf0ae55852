"""Log-probabilities in two parts, against log_softmax in float64."""

import pytest
import torch

from lightning_rnnattn.ops.logsumexp import normalize

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 33, 10_007])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_difference_is_log_softmax(size, dtype):
    for scale, shift in ((1.0, 0.0), (30.0, 1e3), (1e4, -1e4)):
        logits = (scale * torch.randn(3, 2, size) + shift).to(dtype)
        numbers, totals = normalize(logits)
        expected = logits.double().log_softmax(-1)
        assert numbers.dtype == totals.dtype == torch.promote_types(dtype, torch.float32)
        unit = max(1.0, logits.abs().max().item()) * torch.finfo(numbers.dtype).eps
        torch.testing.assert_close((numbers - totals.unsqueeze(-1)).double(), expected, atol=4 * unit, rtol=1e-6)


def test_rows_need_not_be_contiguous_and_are_left_alone():
    logits = torch.randn(37, 5).t()
    before = logits.clone()
    numbers, totals = normalize(logits)
    torch.testing.assert_close(numbers - totals[:, None], before.log_softmax(-1))
    assert torch.equal(logits, before)


@pytest.mark.parametrize("size", [3, 40])
def test_what_is_not_allowed_and_what_is_not_finite(size):
    logits = torch.zeros(5, size)
    logits[0, 1:] = float("-inf")  # one token is left
    logits[1, 0] = -1e30
    logits[2, size // 2] = float("nan")
    logits[3, -1] = float("inf")
    logits[4] = float("-inf")
    numbers, totals = normalize(logits)
    log_probs, expected = numbers - totals[:, None], logits.log_softmax(-1)
    torch.testing.assert_close(log_probs[:2], expected[:2])
    assert not log_probs[2:].amax(-1).isfinite().any()
