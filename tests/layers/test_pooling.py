from functools import partial

import pytest
import torch

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers import Attention, Sparsemax
from lightning_rnnattn.layers.pooling import AttentionPooling, LastPooling, MaxPooling, MeanPooling, redundancy
from lightning_rnnattn.scores import AdditiveScore, CosineScore, DotScore, GeneralScore, ScaledDotScore

X = torch.tensor([[[1.0, 5.0], [3.0, -1.0], [100.0, 100.0]], [[7.0, 7.0], [8.0, 8.0], [9.0, 9.0]]])
MASK = torch.tensor([[True, True, False], [False, False, False]])
POOLINGS = {
    "mean": MeanPooling,
    "max": MaxPooling,
    "last": LastPooling,
    "last, bidirectional": partial(LastPooling, directions=2),
    "attention": AttentionPooling,
    "additive attention": partial(AttentionPooling, attention=partial(Attention, score=AdditiveScore)),
    "attention, heads": partial(
        AttentionPooling, attention=partial(Attention, score=ScaledDotScore, num_heads=2), num_queries=3
    ),
}


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (MeanPooling(2), [2.0, 2.0]),
        (MaxPooling(2), [3.0, 5.0]),
        (LastPooling(2), [3.0, -1.0]),
        (LastPooling(2, 2), [3.0, 5.0]),
    ],
)
def test_by_hand(pooling, expected):
    vector, _ = pooling(X, MASK)
    assert vector.tolist() == [expected, [0.0, 0.0]]


@pytest.mark.parametrize("name", POOLINGS)
def test_masked_elements_have_no_influence_and_nothing_gives_zero(name):
    torch.manual_seed(0)
    pooling = POOLINGS[name](4).double()
    x = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    vector, weights = pooling(x, mask)
    assert vector.shape == (3, pooling.output_size)
    assert not vector[2].any()
    short, _ = pooling(x[1:2, :2], mask[1:2, :2])
    torch.testing.assert_close(vector[1:2], short)
    (grad,) = torch.autograd.grad(vector.sum(), x)
    assert grad.isfinite().all()
    assert not grad[~mask].any()
    if weights is not None:
        torch.testing.assert_close(weights.sum(-1)[:2], torch.ones_like(weights.sum(-1)[:2]))
        assert not weights[2].any()


def test_word_attention_of_yang():
    pooling = AttentionPooling(3, attention=partial(Attention, score=AdditiveScore)).double()
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    score = pooling.attention.score
    bias = score.project_query(pooling.query.unsqueeze(0)).squeeze(1)  # (1, 1, hidden)
    key = x @ score.key_proj.weight.T
    alpha = (torch.tanh(key + bias) @ score.v.flatten()).softmax(-1)
    vector, weights = pooling(x, torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(weights[:, 0], alpha)
    torch.testing.assert_close(vector, torch.einsum("bt,btd->bd", alpha, x))


@pytest.mark.parametrize("score", [AdditiveScore, DotScore, ScaledDotScore, GeneralScore, CosineScore])
def test_any_score_and_normalizer(score):
    pooling = AttentionPooling(4, attention=partial(Attention, score=score, normalizer=Sparsemax), num_queries=2)
    vector, weights = pooling(torch.randn(2, 5, 4), torch.ones(2, 5, dtype=torch.bool))
    assert vector.shape == (2, 8)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2))


def test_redundancy_by_hand():
    apart = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    alike = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    assert redundancy(torch.cat([apart, alike])).tolist() == [0.0, 2.0]


def test_bad_settings():
    with pytest.raises(UserError, match="num_queries=0"):
        AttentionPooling(4, num_queries=0)
    with pytest.raises(UserError, match="window=3"):
        AttentionPooling(4, attention=partial(Attention, window=3))
    with pytest.raises(UserError, match="no features of 2 directions"):
        LastPooling(3, 2)
