"""The grid: every score, with every number of heads, every normalizer and every mask."""

from functools import partial

import pytest
import torch

from lightning_rnnattn import (
    AdditiveScore,
    Attention,
    AttentionScore,
    CosineScore,
    DotScore,
    Entmax15,
    GeneralScore,
    ScaledDotScore,
    Softmax,
    Sparsemax,
    UserError,
)
from lightning_rnnattn.ops import lengths_mask

SCORES = [AdditiveScore, CosineScore, DotScore, GeneralScore, ScaledDotScore]
B, T, S, D = 3, 4, 6, 8
MASKS = {
    "none": {},
    "padding": {"lengths": [6, 3, 0]},
    "causal": {"is_causal": True},
    "window": {"window": 2},
    "causal window over padding": {"is_causal": True, "window": 3, "lengths": [6, 2, 0]},
}


def attend(attention, query, key, *, lengths=None, is_causal=False, need_weights=False):
    mask = None if lengths is None else lengths_mask(torch.tensor(lengths), key.shape[1])
    return attention(query, attention.memory(key, mask=mask), is_causal=is_causal, need_weights=need_weights)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("normalizer", [Softmax, Sparsemax, Entmax15])
@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("score", SCORES)
def test_every_cell_of_the_grid(score, num_heads, normalizer, mask):
    mask = dict(mask)
    window = mask.pop("window", None)
    attention = Attention(D, D, score=score, num_heads=num_heads, normalizer=normalizer, window=window).double()
    query = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True)
    key = torch.randn(B, S, D, dtype=torch.float64, requires_grad=True)

    context, weights = attend(attention, query, key, **mask, need_weights=True)
    fused, nothing = attend(attention, query, key, **mask)
    assert nothing is None
    torch.testing.assert_close(fused, context)

    assert weights.shape == (B, num_heads, T, S)
    values = key.unflatten(-1, (num_heads, -1))
    by_hand = torch.einsum("bhts,bshd->bthd", weights, values).flatten(-2)
    torch.testing.assert_close(attention.out_proj(by_hand), context)

    sums = weights.sum(-1)
    for b, length in enumerate(mask.get("lengths", [S] * B)):
        assert not weights[b, :, :, length:].any()
        for t in range(T):
            position = S - T + t
            last = min(length - 1, position) if mask.get("is_causal") else length - 1
            first = 0 if window is None else position - window + 1
            total = 1.0 if last >= first and length > 0 else 0.0
            torch.testing.assert_close(sums[b, :, t], torch.full((num_heads,), total, dtype=torch.float64))
            assert not weights[b, :, t, last + 1 :].any()
            assert not weights[b, :, t, : max(first, 0)].any()

    parameters = [query, key, *attention.parameters()]
    grad = torch.randn_like(context)
    torch.testing.assert_close(
        torch.autograd.grad(fused, parameters, grad, allow_unused=True),
        torch.autograd.grad(context, parameters, grad, allow_unused=True),
    )


@pytest.mark.parametrize("score", SCORES)
def test_batched_equals_one_by_one(score):
    attention = Attention(D, D, score=score, num_heads=2).double()
    query, key = torch.randn(B, T, D, dtype=torch.float64), torch.randn(B, S, D, dtype=torch.float64)
    lengths = [6, 2, 5]
    batched, _ = attend(attention, query, key, lengths=lengths)
    for b, length in enumerate(lengths):
        alone, _ = attend(attention, query[b : b + 1], key[b : b + 1, :length])
        torch.testing.assert_close(batched[b : b + 1], alone)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("masked", [False, True])
def test_a_memory_grows_and_forgets(score, masked):
    attention = Attention(D, D, score=score, num_heads=2, window=4).double()
    key, query = torch.randn(B, S, D, dtype=torch.float64), torch.randn(B, 1, D, dtype=torch.float64)
    mask = lengths_mask(torch.tensor([6, 5, 4]), S) if masked else None
    whole, _ = attention(query, attention.memory(key, mask=mask), is_causal=True)

    memory = attention.memory(key[:, :2], mask=None if mask is None else mask[:, :2])
    for s in range(2, S):
        new = attention.memory(key[:, s : s + 1], mask=None if mask is None else mask[:, s : s + 1])
        memory = memory.append(new).last(4)
    assert memory.value.shape[-2] == 4
    grown, _ = attention(query, memory, is_causal=True)
    torch.testing.assert_close(grown, whole)


def test_a_mask_of_ones_own_joins_the_memorys():
    attention = Attention(D, D)
    query, key = torch.randn(B, T, D), torch.randn(B, S, D)
    mask = torch.rand(B, T, S) > 0.3
    lengths = lengths_mask(torch.tensor([6, 3, 1]), S)
    _, weights = attention(query, attention.memory(key, mask=lengths), mask=mask, need_weights=True)
    assert torch.equal(weights[:, 0] > 0, mask & lengths[:, None])
    _, shared = attention(query, attention.memory(key), mask=mask[0], need_weights=True)
    assert torch.equal(shared[:, 0] > 0, mask[0].expand(B, T, S))


def test_values_of_their_own():
    attention = Attention(D, 5, score=GeneralScore, value_dim=4, num_heads=2)
    memory = attention.memory(torch.randn(B, S, 5), torch.randn(B, S, 4))
    context, _ = attention(torch.randn(B, T, D), memory)
    assert context.shape == (B, T, 4)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("need_weights", [False, True])
def test_bfloat16_autocast(score, need_weights):
    attention = Attention(D, D, score=score, num_heads=2)
    query, key = torch.randn(B, T, D, requires_grad=True), torch.randn(B, S, D)
    exact, _ = attend(attention, query, key, lengths=[6, 2, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, _ = attend(attention, query, key, lengths=[6, 2, 0], need_weights=need_weights)
    torch.testing.assert_close(rough.float(), exact, atol=0.05, rtol=0.05)
    rough.float().sum().backward()
    assert query.grad.isfinite().all()
    assert not query.grad[2].any()


class NegativeDistance(AttentionScore):
    def project_query(self, query):
        return self.split_heads(query)

    def project_key(self, key):
        return self.split_heads(key)

    def forward(self, query, key):
        return -torch.cdist(query, key)


def test_a_score_of_ones_own_is_one_class():
    attention = Attention(D, D, score=NegativeDistance, num_heads=2).double()
    query, key = torch.randn(B, T, D, dtype=torch.float64), torch.randn(B, S, D, dtype=torch.float64)
    fused, _ = attend(attention, query, key, lengths=[6, 2, 0], is_causal=True)
    context, weights = attend(attention, query, key, lengths=[6, 2, 0], is_causal=True, need_weights=True)
    torch.testing.assert_close(fused, context)
    scores = -(query[0, 0, :4] - key[0, :3, :4]).norm(dim=-1)
    torch.testing.assert_close(weights[0, 0, 0, :3], scores.softmax(0))


@pytest.mark.parametrize("mask", [{}, {"is_causal": True}, {"lengths": [20, 9, 0]}], ids=["none", "causal", "padding"])
@pytest.mark.parametrize("normalizer", [Softmax, Sparsemax])
@pytest.mark.parametrize("score", [AdditiveScore, ScaledDotScore, NegativeDistance])
def test_dropout_drops_weights(score, normalizer, mask, assert_drops):
    attention = Attention(D, D, score=score, value_dim=20, normalizer=normalizer, dropout=0.3)
    query, key = torch.randn(B, 20, D), torch.randn(B, 20, D)
    values = torch.eye(20).expand(B, 20, 20)  # so that a context is its weights
    seen = lengths_mask(torch.tensor(mask["lengths"]), 20) if "lengths" in mask else None
    memory, is_causal = attention.memory(key, values, seen), "is_causal" in mask
    context, weights = attention(query, memory, is_causal=is_causal, need_weights=True)
    assert torch.equal(context, weights[:, 0])
    run = partial(attention, query, memory, is_causal=is_causal)
    assert_drops(attention, run, 0.3, before=None, behind=attention.out_proj)


@pytest.mark.parametrize("score", [DotScore, partial(ScaledDotScore, hidden_size=6), AdditiveScore])
def test_compiles_and_exports_whole(score):
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = Attention(D, D, score=score, num_heads=2, window=3)

        def forward(self, query, key, mask):
            context, _ = self.attention(query, self.attention.memory(key, mask=mask), is_causal=True)
            return context

    layer = Layer().eval()
    inputs = torch.randn(B, T, D), torch.randn(B, S, D), lengths_mask(torch.tensor([6, 3, 2]), S)
    expected = layer(*inputs)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), expected)
    exported = torch.export.export(layer, inputs).module()
    torch.testing.assert_close(exported(*inputs), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "num_heads=3 does not divide value_dim=8"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"window": 0}, "window=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_settings_out_of_range_say_so(options, message):
    with pytest.raises(UserError, match=message):
        Attention(D, D, **options)


class Halved(Attention):
    """An attention of a user's own."""

    def forward(self, query, memory, **options):
        context, weights = super().forward(query, memory, **options)
        return context / 2, weights


@pytest.mark.parametrize("kind", [Attention, Halved])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("score", [AdditiveScore, GeneralScore])
def test_steps_are_calls(score, dropout, kind):
    layer = kind(6, 4, score=score, num_heads=2, dropout=dropout)
    memory = layer.memory(torch.randn(3, 5, 4), mask=lengths_mask(torch.tensor([5, 2, 0])))
    step = layer.steps(memory, 3, 2)
    for seed, query in enumerate(torch.randn(3, 3, 2, 6)):
        torch.manual_seed(seed)
        expected, _ = layer(query, memory)
        torch.manual_seed(seed)
        context, weights = step(query)
        torch.testing.assert_close(context, expected)
        assert weights is None
    _, weights = layer.steps(memory, 1, 2, need_weights=True)(torch.randn(3, 2, 6))
    assert weights.shape == (3, 2, 2, 5)
