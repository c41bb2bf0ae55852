"""Gradients that cannot be differentiated again say so, however they are asked for."""

import pytest
import torch

from lightning_rnnattn.ops.derivatives import differentiable_once


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, unsaved):
        ctx.save_for_backward(x)
        return x.square() + unsaved

    @staticmethod
    @differentiable_once
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * grad * x, grad


@pytest.fixture
def leaves():
    return torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)


def gradient(leaves, loss=torch.sum):
    return torch.autograd.grad(loss(Square.apply(*leaves)), leaves, create_graph=True)


def test_the_first_gradient_is_right_and_may_be_changed(leaves):
    to_x, to_other = gradient(leaves)
    torch.testing.assert_close(to_x, 2 * leaves[0])
    torch.testing.assert_close(to_other, torch.ones(3))
    to_x.mul_(2)
    torch.testing.assert_close(torch.autograd.grad(Square.apply(*leaves).sum(), leaves)[0], 2 * leaves[0])


@pytest.mark.parametrize("which", [0, 1])
def test_backward_refuses_whatever_the_gradient_depends_on(leaves, which):
    with pytest.raises(RuntimeError, match="differentiable once"):
        (leaves[0].sum() + gradient(leaves)[which].square().sum()).backward()


def test_a_gradient_by_what_was_saved_or_came_in_refuses(leaves):
    x, _ = leaves
    with pytest.raises(RuntimeError, match="differentiable once"):  # a linear loss: by what was saved
        torch.autograd.grad(gradient(leaves)[0].square().sum(), x)
    scale = torch.ones(3, requires_grad=True)
    to_x, _ = gradient(leaves, lambda y: (scale * y).sum())
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(to_x.sum(), scale)
