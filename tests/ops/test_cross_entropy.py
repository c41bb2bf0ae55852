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


def test_a_chunked_loss_by_hand(monkeypatch):
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", 1)
    features, weight, targets = torch.randn(4, 3), torch.randn(5, 3), torch.randint(5, (4,))
    logits = features @ weight.T
    by_hand = -sum(logits[n].log_softmax(0)[targets[n]] for n in range(4))
    torch.testing.assert_close(linear_cross_entropy(features, weight, targets), by_hand)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_is_frozen_gets_no_gradient(monkeypatch, frozen):
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", 30)
    inputs = [torch.randn(7, 3), torch.randn(11, 3), torch.randn(11)]
    for i, x in enumerate(inputs):
        x.requires_grad_(i != frozen)
    features, weight, bias = inputs
    targets = torch.randint(11, (7,))
    learned = [x for x in inputs if x.requires_grad]
    grads = torch.autograd.grad(linear_cross_entropy(features, weight, targets, bias), learned)
    expected = torch.autograd.grad(linear_cross_entropy_reference(features, weight, targets, bias), learned)
    torch.testing.assert_close(grads, expected)
    with torch.no_grad():
        assert not linear_cross_entropy(features, weight, targets, bias).requires_grad


def test_in_half_precision_gradients_are_summed_in_float32(monkeypatch):
    monkeypatch.setattr(cross_entropy, "_CHUNK_ELEMENTS", 8)
    features, weight = torch.full((4000, 1), 0.5), torch.zeros(8, 1, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(features, weight, torch.zeros(4000, dtype=torch.long))
    [grad] = torch.autograd.grad(loss, weight)
    # Each position adds 0.5 (1/8 - 1) to the first class; in bfloat16 the sum would stop growing at 128.
    torch.testing.assert_close(grad[0], torch.tensor([-4000 * 0.5 * 7 / 8]))
