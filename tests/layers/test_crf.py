import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from lightning_rnnattn import UserError
from lightning_rnnattn.layers import CRFOutput, SoftmaxOutput
from lightning_rnnattn.ops.crf import Allowed

B, T, D, C = 4, 5, 6, 3
OUTPUTS = [SoftmaxOutput, CRFOutput]
LENGTHS = torch.tensor([5, 0, 1, 3])


def build(output, seed=0):
    torch.manual_seed(seed)
    module = output(D, C).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@pytest.fixture
def features():
    return torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels():
    return torch.randint(C, (B, T), generator=torch.Generator().manual_seed(2))


def test_softmax_by_hand(features, labels):
    output = build(SoftmaxOutput)
    logits = features @ output.proj.weight.T + output.proj.bias
    real = [(b, t) for b, length in enumerate(LENGTHS) for t in range(int(length))]
    expected = -sum(logits[b, t].log_softmax(0)[labels[b, t]] for b, t in real)
    torch.testing.assert_close(output.loss(features, labels, LENGTHS), expected)
    best, marginals = output.decode(features, LENGTHS), output.marginals(features, LENGTHS)
    for b, t in real:
        assert best[b, t] == logits[b, t].argmax()
        torch.testing.assert_close(marginals[b, t], logits[b, t].softmax(0))
    assert marginals.sum().item() == pytest.approx(len(real))


def test_a_crf_begins_as_a_softmax(features, labels):
    softmax, crf = SoftmaxOutput(D, C).double(), CRFOutput(D, C).double()
    crf.proj.load_state_dict(softmax.proj.state_dict())
    torch.testing.assert_close(crf.loss(features, labels, LENGTHS), softmax.loss(features, labels, LENGTHS))
    torch.testing.assert_close(crf.marginals(features, LENGTHS), softmax.marginals(features, LENGTHS))
    assert torch.equal(crf.decode(features, LENGTHS), softmax.decode(features, LENGTHS))


@pytest.mark.parametrize("output", OUTPUTS)
def test_limits_that_forbid_nothing_change_nothing(output, features):
    output, everything = build(output), Allowed(*(torch.ones(s, dtype=torch.bool) for s in ((C, C), (C,), (C,))))
    assert torch.equal(output.decode(features, LENGTHS, everything), output.decode(features, LENGTHS))
    torch.testing.assert_close(output.marginals(features, LENGTHS, everything), output.marginals(features, LENGTHS))


@pytest.mark.parametrize("output", OUTPUTS)
def test_rows_add_up_and_empty_rows_count_nothing(output, features, labels):
    output = build(output)
    alone = [
        output.loss(features[b : b + 1, :n], labels[b : b + 1, :n], LENGTHS[b : b + 1])
        for b, n in ((0, 5), (2, 1), (3, 3))
    ]
    torch.testing.assert_close(output.loss(features, labels, LENGTHS), sum(alone))
    features.requires_grad_()
    nothing = output.loss(features, labels, torch.zeros(B, dtype=torch.int64))
    assert nothing.item() == 0
    gradients = torch.autograd.grad(nothing, [features, *output.parameters()])  # every parameter is in the graph
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("output", OUTPUTS)
def test_what_is_forbidden_is_neither_decoded_nor_probable(output, features):
    output = build(output)
    # 1 must be followed by 2, which nothing else may come before; nothing begins with 2 or ends with 1.
    transition = torch.tensor([[True, True, False], [False, False, True], [True, True, False]])
    allowed = Allowed(transition, torch.tensor([True, True, False]), torch.tensor([True, False, True]))
    for seed in range(20):
        x = torch.randn(1, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        path = output.decode(x, torch.tensor([T]), allowed)[0].tolist()
        assert path[0] != 2
        assert path[-1] != 1
        assert all(transition[i, j] for i, j in pairwise(path))
        marginals = output.marginals(x, torch.tensor([T]), allowed)[0]
        assert marginals[0, 2] == marginals[-1, 1] == 0
        torch.testing.assert_close(marginals[:-1, 1], marginals[1:, 2])  # each 1 has its 2
        torch.testing.assert_close(marginals.sum(-1), torch.ones(T, dtype=torch.float64))


def test_label_smoothing_is_for_training_only(features, labels):
    output = build(lambda *sizes: SoftmaxOutput(*sizes, label_smoothing=0.1))
    logits = output.proj(features[:1]).flatten(0, 1)
    for mode, share in ((True, 0.1), (False, 0.0)):
        output.train(mode)
        expected = F.cross_entropy(logits, labels[0], reduction="sum", label_smoothing=share)
        torch.testing.assert_close(output.loss(features[:1], labels[:1], LENGTHS[:1]), expected)


@pytest.mark.parametrize("output", OUTPUTS)
def test_autocast_sums_in_float32(output, features, labels):
    output = build(output).float()
    steps, lengths = 400, torch.tensor([400])
    x, y = torch.randn(1, steps, D), torch.randint(C, (1, steps))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, marginals = output.loss(x, y, lengths), output.marginals(x, lengths)
    assert loss.dtype == marginals.dtype == torch.float32
    torch.testing.assert_close(loss, output.loss(x, y, lengths), rtol=0.01, atol=0)
    torch.testing.assert_close(marginals.sum(-1), torch.ones(1, steps))


def test_a_crf_learns_what_only_transitions_tell():
    # The features say nothing; labels alternate, from 0 or 1.
    torch.manual_seed(0)
    output, x = CRFOutput(1, 2), torch.zeros(2, 6, 1)
    labels, lengths = torch.tensor([[0, 1] * 3, [1, 0] * 3]), torch.tensor([6, 6])
    optimizer = torch.optim.Adam(output.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = output.loss(x, labels, lengths)
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(2 * math.log(2), abs=0.05)  # which of the two begins remains unknown
    first, *rest = output.decode(x[:1], lengths[:1])[0].tolist()
    assert [first, *rest] in labels.tolist()


@pytest.mark.parametrize("output", OUTPUTS)
def test_sizes_are_checked(output):
    with pytest.raises(UserError, match="num_labels=0"):
        output(D, 0)


def test_smoothing_is_a_share():
    with pytest.raises(UserError, match="label_smoothing=1"):
        SoftmaxOutput(D, C, label_smoothing=1.0)
