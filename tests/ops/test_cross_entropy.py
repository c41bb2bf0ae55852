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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("chunk", [30_000, 10**9])
def test_half_precision_rounds_no_sum(monkeypatch, dtype, chunk):
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", chunk)
    features, weight = torch.randn(900, 32, requires_grad=True), (0.2 * torch.randn(400, 32)).requires_grad_()
    bias, targets = torch.zeros(400, requires_grad=True), torch.randint(400, (900,))
    targets[3] = IGNORE
    rounded = [x.to(dtype).float() for x in (features, weight)]
    exact = 20 * linear_cross_entropy_reference(rounded[0], rounded[1], targets, bias)  # beyond the range of float16
    with torch.autocast("cpu", dtype=dtype):
        loss = 20 * linear_cross_entropy(features, weight, targets, bias)
    assert loss.dtype == torch.float32
    assert loss > torch.finfo(torch.float16).max
    torch.testing.assert_close(loss, exact, rtol=1e-3, atol=0)
    [grad] = torch.autograd.grad(loss, weight)
    [expected] = torch.autograd.grad(exact, weight)
    assert grad.dtype == torch.float32
    torch.testing.assert_close(grad, expected, rtol=0.05, atol=0.05 * expected.abs().max().item())


def test_without_the_fused_function_the_plain_one_serves(monkeypatch):
    monkeypatch.delattr(torch.nn.functional, "linear_cross_entropy", raising=False)
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", 1)
    features, weight, targets = torch.randn(4, 3), torch.randn(5, 3), torch.randint(5, (4,))
    logits = features @ weight.T
    by_hand = -sum(logits[n].log_softmax(0)[targets[n]] for n in range(4))
    torch.testing.assert_close(linear_cross_entropy(features, weight, targets), by_hand)
