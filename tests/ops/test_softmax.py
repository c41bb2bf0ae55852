import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_rnnattn.ops import entmax15, masked_softmax, sparsemax
from lightning_rnnattn.ops.entmax import threshold_reference
from lightning_rnnattn.ops.softmax import masked_softmax_reference

NORMALIZERS = [masked_softmax, sparsemax, entmax15]


@given(rows=st.integers(1, 4), size=st.integers(1, 17), seed=st.integers(0, 1000), keep=st.floats(0, 1))
def test_softmax_equals_its_equation(rows, size, seed, keep):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, size, generator=generator, dtype=torch.float64) * 5
    mask = torch.rand(rows, size, generator=generator) < keep
    torch.testing.assert_close(masked_softmax(scores, mask), masked_softmax_reference(scores, mask))
    torch.testing.assert_close(masked_softmax(scores), masked_softmax_reference(scores))


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_row_with_nothing_to_attend_gives_zeros_in_value_and_gradient(normalize, dtype):
    scores = (torch.randn(3, 5) * 1000).to(dtype).requires_grad_()
    mask = torch.tensor([[False] * 5, [True] * 5, [True, False, True, False, False]])
    weights = normalize(scores, mask)
    assert torch.equal(weights[0], torch.zeros(5, dtype=dtype))
    assert torch.equal(weights[2, [1, 3, 4]], torch.zeros(3, dtype=dtype))
    torch.testing.assert_close(weights[1:].sum(-1).float(), torch.ones(2), atol=2e-2, rtol=0)
    (weights * torch.randn(3, 5).to(dtype)).sum().backward()
    assert torch.equal(scores.grad[0], torch.zeros(5, dtype=dtype))
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("hidden", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_what_hides_behind_the_mask_reaches_nothing(normalize, hidden):
    scores = torch.randn(2, 4, dtype=torch.float64)
    mask = torch.tensor([True, False, True, True])
    poisoned = torch.where(mask, scores, hidden).requires_grad_()
    weights = normalize(poisoned, mask)
    torch.testing.assert_close(weights[:, mask], normalize(scores[:, mask]))
    weights.square().sum().backward()
    assert poisoned.grad.isfinite().all()
    assert torch.equal(poisoned.grad[:, 1], torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(normalize, size, masked):
    scores = torch.randn(3, size, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(3, size) > 0.4 if masked else None
    assert torch.autograd.gradcheck(lambda x: normalize(x, mask), scores)


@given(size=st.integers(1, 40), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_sparse_weights_equal_bisection(size, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, size, generator=generator, dtype=torch.float64) * scale
    torch.testing.assert_close(sparsemax(scores), threshold_reference(scores, alpha=2.0), atol=1e-9, rtol=0)
    torch.testing.assert_close(entmax15(scores), threshold_reference(scores, alpha=1.5), atol=1e-7, rtol=0)


def test_sparsemax_by_hand():
    # tau = (1 + 0.5 - 1) / 2 = 0.25; the third score lies below it.
    scores = torch.tensor([1.0, 0.5, -1.0])
    torch.testing.assert_close(sparsemax(scores), torch.tensor([0.75, 0.25, 0.0]))


@pytest.mark.parametrize("normalize", NORMALIZERS)
def test_any_dimension_and_no_keys(normalize):
    scores = torch.randn(2, 3, 4)
    torch.testing.assert_close(normalize(scores, dim=1), normalize(scores.mT).mT)
    assert normalize(torch.zeros(2, 0)).shape == (2, 0)
    assert normalize(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool)).shape == (2, 0)


@pytest.mark.parametrize("normalize", [sparsemax, entmax15])
def test_second_derivatives_of_sparse_weights(normalize):
    scores = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 3, 6) < 0.7
    assert torch.autograd.gradgradcheck(lambda x: normalize(x, mask) * torch.arange(6), scores)


@pytest.mark.parametrize("normalize", [sparsemax, entmax15])
def test_sparse_weights_compile_as_one_graph(normalize):
    scores = torch.randn(2, 5, requires_grad=True)
    compiled = torch.compile(normalize, backend="aot_eager", fullgraph=True)
    for function in (compiled, normalize):
        (grad,) = torch.autograd.grad(function(scores)[:, 0].sum(), scores)
        torch.testing.assert_close(grad, torch.autograd.grad(normalize(scores)[:, 0].sum(), scores)[0])


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("masked", [False, True])
def test_a_score_that_is_no_number_makes_weights_that_are_none(normalize, bad, masked):
    weights = normalize(torch.tensor([[bad, 0.0, 1.0], [0.0, 0.0, 0.0]]), torch.ones(3, dtype=bool) if masked else None)
    assert weights[0].isnan().any()
    torch.testing.assert_close(weights[1], torch.full((3,), 1 / 3))


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("scale", [1e8, -1e8, 1e30])
def test_large_scores_hide_nothing(normalize, scale):
    scores = torch.tensor([[scale, scale, scale]])
    weights = normalize(scores, torch.tensor([[True, False, True]]))
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.0, 0.5]]))
