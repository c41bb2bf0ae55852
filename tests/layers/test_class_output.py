from functools import partial

import pytest
import torch
from torch.nn import functional as F

from lightning_rnnattn import MultiLabel, SingleLabel, UserError

D, L, B = 5, 3, 7


def layer_of(kind, **options):
    torch.manual_seed(0)
    return kind(D, L, **options).double()


def vectors():
    return torch.randn(B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


LABELS = torch.tensor([0, 2, 1, 1, 0, 2, 2])
SEVERAL = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 1, 0]]).bool()


def test_one_label_by_hand():
    output = layer_of(SingleLabel)
    x = vectors()
    scores = (x @ output.proj.weight.T + output.proj.bias).exp()
    expected = scores / scores.sum(1, keepdim=True)
    torch.testing.assert_close(output.probabilities(x), expected)
    torch.testing.assert_close(output.losses(x, LABELS), -expected[range(B), LABELS].log())
    assert output.decide(expected).tolist() == expected.argmax(1).tolist()
    assert output.names(torch.tensor(2), ("a", "b", "c")) == "c"
    assert output.weights(LABELS).tolist() == [1.0] * B


def test_smoothing_spreads_a_share_over_all_labels_in_training_only():
    output, x = layer_of(SingleLabel, label_smoothing=0.3), vectors()
    log_probs = output.probabilities(x).log()
    expected = -(0.7 * log_probs[range(B), LABELS] + 0.3 * log_probs.mean(1))
    torch.testing.assert_close(output.losses(x, LABELS), expected)
    torch.testing.assert_close(output.eval().losses(x, LABELS), -log_probs[range(B), LABELS])


def test_the_weighted_mean_is_that_of_torch():
    weights = [0.5, 2.0, 0.1]
    output, x = layer_of(SingleLabel, class_weights=weights), vectors()
    shares = output.weights(LABELS)
    mean = (output.losses(x, LABELS) * shares).sum() / shares.sum()
    torch.testing.assert_close(mean, F.cross_entropy(output.proj(x), LABELS, torch.tensor(weights).double()))
    assert "class_weights" not in output.state_dict()


def test_several_labels_by_hand():
    output, x = layer_of(MultiLabel), vectors()
    p = 1 / (1 + (-(x @ output.proj.weight.T + output.proj.bias)).exp())
    torch.testing.assert_close(output.probabilities(x), p)
    torch.testing.assert_close(output.losses(x, SEVERAL), -torch.where(SEVERAL, p, 1 - p).log().sum(1))
    assert torch.equal(output.decide(p), p > 0.5)
    assert output.names(torch.tensor([True, False, True]), ("a", "b", "c")) == ["a", "c"]
    assert output.names(torch.tensor([False] * 3), ("a", "b", "c")) == []


def test_positive_weights_and_smoothing_of_several_labels():
    output, x = layer_of(MultiLabel, positive_weights=[1.0, 3.0, 0.5], label_smoothing=0.2), vectors()
    p, y = output.probabilities(x), torch.where(SEVERAL, 0.9, 0.1)
    expected = -(torch.tensor([1.0, 3.0, 0.5]) * y * p.log() + (1 - y) * (1 - p).log()).sum(1)
    torch.testing.assert_close(output.losses(x, SEVERAL), expected)
    plain = -torch.where(SEVERAL, p, 1 - p).log().sum(1)
    torch.testing.assert_close(output.eval().losses(x, SEVERAL), plain)


@pytest.mark.parametrize(("kind", "labels"), [(SingleLabel, LABELS), (MultiLabel, SEVERAL)])
def test_half_precision_loses_no_more_than_its_inputs(kind, labels):
    output = layer_of(kind).bfloat16()
    assert output.losses(vectors().bfloat16(), labels).dtype == torch.float32
    assert output.probabilities(vectors().bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(SingleLabel, 0, 2), "input_size=0"),
        (partial(MultiLabel, 2, 0), "num_labels=0"),
        (partial(SingleLabel, 2, 2, label_smoothing=1.0), "label_smoothing=1.0"),
        (partial(SingleLabel, 2, 2, class_weights=[1.0]), "class_weights: 2 numbers"),
        (partial(MultiLabel, 2, 2, positive_weights=[1.0, -1.0]), "positive_weights: 2 numbers, none below 0"),
    ],
)
def test_what_cannot_be_is_said(make, message):
    with pytest.raises(UserError, match=message):
        make()
