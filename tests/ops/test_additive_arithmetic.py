"""The error bound of the additive score, for every magnitude, against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn.ops.additive import additive_score, additive_score_reference
from lightning_rnnattn.ops.additive.paths import SETTING

BOUND = 8 * torch.finfo(torch.float32).eps
MAGNITUDES = [1e-6, 1e-3, 0.1, 1.0, 5.0, 11.0, 22.0, 33.0, 40.0, 43.0, 50.0, 90.0, 1e3, 1e4, 1e30, 3e38]


@pytest.fixture(params=["auto", "blocked"], autouse=True)
def path(request, monkeypatch):
    monkeypatch.setenv(SETTING, request.param)


def check(query, key, v):
    query, key, v = (x.requires_grad_() for x in (query, key, v))
    exact = [x.detach().double().requires_grad_() for x in (query, key, v)]
    score, expected = additive_score(query, key, v), additive_score_reference(*exact)
    assert (score - expected).abs().max() <= BOUND * v.abs().sum(), "score"
    grad = torch.randn_like(score)
    mine = torch.autograd.grad(score, (query, key, v), grad)
    theirs = torch.autograd.grad(expected, exact, grad.double())
    reach = grad.abs().sum().item() * v.abs().max().clamp(min=1).item()
    for a, b in zip(mine, theirs, strict=True):
        assert (a - b).abs().max() <= BOUND * reach, "gradient"


@pytest.mark.parametrize("query_scale", MAGNITUDES)
@pytest.mark.parametrize("key_scale", MAGNITUDES)
def test_error_within_its_bound(query_scale, key_scale):
    query, key = torch.randn(9, 130), torch.randn(11, 130)
    check((query * query_scale).clamp(-3e38, 3e38), (key * key_scale).clamp(-3e38, 3e38), torch.randn(130))


@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_pairs_that_nearly_cancel(magnitude):
    key = (torch.randn(12, 65) * magnitude).clamp(-3e38, 3e38)
    query = -key[:7] + torch.randn(7, 65)
    check(query, key, torch.randn(65))


@pytest.mark.parametrize("features", [512, 4096])
def test_long_sums(features):
    check(torch.randn(3, features), torch.randn(5, features), torch.rand(features))


@pytest.mark.parametrize(("query", "key"), [(25.0, -22.0), (-60.0, 59.0), (44.0, -43.0), (1e4, -9999.0), (-33.5, 33.0)])
def test_a_pair_of_opposite_sign(query, key):
    score = additive_score(torch.tensor([[query]]), torch.tensor([[key]]), torch.ones(1))
    assert score.item() == pytest.approx(torch.tensor(query + key, dtype=torch.float64).tanh().item(), abs=BOUND)


@settings(deadline=None, max_examples=100)
@given(
    query=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=5),
    key=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=5),
    v=st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
)
def test_whatever_numbers_meet(query, key, v):
    check(torch.tensor(query).unsqueeze(1), torch.tensor(key).unsqueeze(1), torch.tensor([v]))


def test_not_a_number_stays_in_its_row():
    query, key = torch.randn(3, 20), torch.randn(5, 20)
    query[1, 3] = torch.nan
    key[2, 4] = torch.inf
    key[3] = torch.nan
    score = additive_score(query, key, torch.rand(20))
    expected = additive_score_reference(query, key, torch.ones(20)).isnan()
    assert torch.equal(score.isnan(), expected)
    assert not score[0, :3].isnan().any()
