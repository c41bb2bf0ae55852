import pytest
import torch

from lightning_rnnattn.ops import cross_entropy
from lightning_rnnattn.ops.cross_entropy import IGNORE, linear_cross_entropy, linear_cross_entropy_reference


@pytest.mark.parametrize("chunk", [1, 40, 300, 10_000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("has_bias", [True, False])
def test_chunks_change_nothing(monkeypatch, chunk, smoothing, has_bias):
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", chunk)
    features, weight = torch.randn(13, 5, dtype=torch.float64), torch.randn(29, 5, dtype=torch.float64)
    bias = torch.randn(29, dtype=torch.float64) if has_bias else None
    targets = torch.randint(29, (13,))
    targets[[0, 7]] = IGNORE
    inputs = [x.requires_grad_() for x in (features, weight, bias) if x is not None]

    fused = linear_cross_entropy(features, weight, targets, bias, smoothing)
    reference = linear_cross_entropy_reference(features, weight, targets, bias, smoothing)
    torch.testing.assert_close(fused, reference)
    torch.testing.assert_close(torch.autograd.grad(3 * fused, inputs), torch.autograd.grad(3 * reference, inputs))


def test_autocast_gives_a_float32_sum_in_every_path(monkeypatch):
    features, weight = torch.randn(64, 32, requires_grad=True), torch.randn(200, 32, requires_grad=True)
    bias, targets = torch.zeros(200, requires_grad=True), torch.randint(200, (64,))
    exact = linear_cross_entropy_reference(features, weight, targets, bias)
    for chunk in (1000, 10**9):
        monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", chunk)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = linear_cross_entropy(features, weight, targets, bias)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, exact, rtol=2e-2, atol=0)
        assert torch.autograd.grad(loss, weight)[0].dtype == torch.float32


def test_without_the_fused_function_the_plain_one_serves(monkeypatch):
    monkeypatch.delattr(torch.nn.functional, "linear_cross_entropy", raising=False)
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", 1)
    features, weight, targets = torch.randn(4, 3), torch.randn(5, 3), torch.randint(5, (4,))
    logits = features @ weight.T
    by_hand = -sum(logits[n].log_softmax(0)[targets[n]] for n in range(4))
    torch.testing.assert_close(linear_cross_entropy(features, weight, targets), by_hand)
