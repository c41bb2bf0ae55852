import pytest
import torch

from lightning_rnnattn.ops.penalties import activation_penalty, slowness_penalty


def test_by_hand():
    outputs = torch.tensor([[[1.0, 2.0], [3.0, 2.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True, False]])
    assert activation_penalty(outputs, mask) == (1 + 4) / 2 + (9 + 4) / 2
    assert slowness_penalty(outputs, mask) == 2 * (4 + 0) / 2  # two steps count, but there is one change


def test_over_the_steps_they_are_the_means_of_the_released_code():
    outputs = torch.randn(3, 7, 5, dtype=torch.float64)
    mask = torch.ones(3, 7, dtype=torch.bool)
    torch.testing.assert_close(activation_penalty(outputs, mask) / mask.sum(), outputs.pow(2).mean())
    change = outputs[:, 1:] - outputs[:, :-1]
    torch.testing.assert_close(slowness_penalty(outputs, mask) / mask.sum(), change.pow(2).mean())


@pytest.mark.parametrize("mask", [torch.zeros(2, 3, dtype=torch.bool), torch.tensor([[True, False, True]] * 2)])
def test_without_neighbours_nothing_changes(mask):
    outputs = torch.randn(2, 3, 4, requires_grad=True)
    penalty = slowness_penalty(outputs, mask)
    penalty.backward()
    assert penalty == 0
    assert not outputs.grad.any()
