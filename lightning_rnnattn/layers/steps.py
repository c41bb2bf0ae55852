"""A recurrent network read step by step, where a part of each input is only known when its step comes.

An attentional decoder feeds back what it has just computed. What is known beforehand, the embeddings' share of the
gates, is taken out of the loop as one product; so is the weights' gradient.

Letters: N rows, T time, E features known beforehand, F features fed back, D hidden_size, G gates times D.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.ops.derivatives import differentiable_once
from lightning_rnnattn.ops.native import autocast_dtype
from lightning_rnnattn.ops.recurrent import gru_cell, lstm_cell

if TYPE_CHECKING:
    from lightning_rnnattn.layers.rnn import RNN, State

Layers = list[tuple[Tensor, ...]]
"""A state layer by layer: (h,), or for the LSTM (h, c), of shape (N, D)."""

Weights = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of a layer: those of its inputs (G, E + F), those of its state (G, D), and a bias (G,) of each."""


def unstack(state: "State") -> Layers:
    """A state (L, N, D), layer by layer."""
    parts = (state,) if isinstance(state, Tensor) else state
    return list(zip(*(part.unbind(0) for part in parts), strict=True))


def stack(layers: Layers) -> "State":
    """The state (L, N, D) of its layers."""
    parts = [torch.stack(part) for part in zip(*layers, strict=True)]
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])


class Steps(ABC):
    """Some steps of a recurrent network; made by `RNN.steps`."""

    @abstractmethod
    def __call__(self, t: int, fed: Tensor, layers: Layers) -> tuple[Tensor, Layers]:
        """Makes step t.

        Args:
            t: 0 to T - 1, each at most once, in order.
            fed: (N, F), the part of the input that was not known beforehand.
            layers: the state before.

        Returns:
            Output (N, output_size), and the state after.
        """


class CallSteps(Steps):
    """Calls a network of any kind once a step; what it drops at random, it draws anew each time."""

    def __init__(self, rnn: "RNN", known: Tensor) -> None:
        self._rnn, self._known = rnn, known.unbind(1)

    def __call__(self, t: int, fed: Tensor, layers: Layers) -> tuple[Tensor, Layers]:
        """See `Steps`."""
        x = torch.cat([self._known[t], fed], dim=-1)
        output, state = self._rnn(x[:, None], stack(layers))
        return output[:, 0], unstack(state)


class KernelSteps(Steps):
    """Steps of a stack of one of torch's networks, from its weights.

    Args:
        layer: what a layer does.
        weights: of each layer, as torch names them: ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh``.
        known: (N, T, E), the part of the inputs that is known beforehand.
        between: what layer i + 1 reads of what layer i made, from i and that, (N, D).
        residual: add each layer's input to its output, where both have one size.
    """

    def __init__(
        self,
        layer: "type[LayerSteps]",
        weights: Sequence[Weights],
        known: Tensor,
        between: Callable[[int, Tensor], Tensor],
        residual: bool,
    ) -> None:
        inputs = [known] + [known[..., :0]] * (len(weights) - 1)
        self._layers = [layer(each, x) for each, x in zip(weights, inputs, strict=True)]
        self._between = between
        self._known = known.unbind(1) if residual else None

    def __call__(self, t: int, fed: Tensor, layers: Layers) -> tuple[Tensor, Layers]:
        """See `Steps`."""
        x, after = fed, []
        for i, (layer, before) in enumerate(zip(self._layers, layers, strict=True)):
            state = layer(t, self._between(i - 1, x) if i else x, before)
            after.append(state)
            if self._known is None:
                x = state[0]
            else:
                below = x if i else torch.cat([self._known[t], x], dim=-1)
                x = state[0] + below if state[0].shape == below.shape else state[0]
        return x, after


class Product:
    """Σ W_i u_i + shares[t] at each step t, the gradient of the W_i taken in one product for all steps.

    Args:
        shares: (T, N, G), what was known beforehand.
        weights: (G, U_i) each.
    """

    def __init__(self, shares: Tensor, *weights: Tensor) -> None:
        self._inputs: list[Tensor] = []
        self._whole: Tensor | None = None  # whose gradient they are kept for
        if len(shares) > 1:  # joining them costs more than one product saves
            weights = (torch.cat(weights, dim=1),) if len(weights) > 1 else weights
            # A compiler would take the list for what it is now: empty.
            if torch.is_grad_enabled() and weights[0].requires_grad and not torch.compiler.is_compiling():
                self._whole = weights[0]
                shares = _GatherGradient.apply(shares, weights[0], self._inputs)
                weights = (weights[0].detach(),)
            weights = (_as_multiplied(weights[0]),)
        self._shares, self._weights = shares.unbind(0), [weight.t() for weight in weights]

    def __call__(self, t: int, *inputs: Tensor) -> Tensor:
        """(N, U_i) each to (N, G)."""
        if len(inputs) > len(self._weights):
            inputs = (torch.cat(inputs, dim=-1),)
        total = self._shares[t]
        if self._whole is not None:
            self._inputs.append(inputs[0].detach())
            return _AddProduct.apply(total, inputs[0], self._weights[0], self._whole)
        for u, weight in zip(inputs, self._weights, strict=True):
            total = torch.addmm(total, u, weight)
        return total


def _as_multiplied(weight: Tensor) -> Tensor:
    """What autocast would make of a weight, at each step anew: it keeps none that is no parameter."""
    dtype = autocast_dtype(weight.device.type)
    return weight if dtype is None or weight.dtype is torch.float64 else weight.to(dtype)


class _AddProduct(torch.autograd.Function):
    """total + u Wᵀ, without the gradient of W, which `_GatherGradient` takes."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, u: Tensor, transposed: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(transposed, weight)
        ctx.dtypes = total.dtype, u.dtype
        return torch.addmm(total, u, transposed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        transposed, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to be differentiated, by the weight, too
            transposed = weight.t().to(transposed.dtype)
        to_total, to_u = ctx.dtypes
        product = (grad.to(transposed.dtype) @ transposed.t()).to(to_u) if ctx.needs_input_grad[1] else None
        return grad.to(to_total), product, None, None


class _GatherGradient(torch.autograd.Function):
    """Hands the shares on. Their gradient is that of each step's sum, so it gives the gradient of the weight, too."""

    @staticmethod
    def forward(ctx: Any, shares: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        # The list is empty now, and full when the last step, and so the first gradient, has been taken.
        ctx.inputs, ctx.dtype = inputs, weight.dtype
        return shares.view_as(shares)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        return grad, _of_weight(ctx, grad) if ctx.needs_input_grad[1] else None, None


@differentiable_once
def _of_weight(ctx: Any, grad: Tensor) -> Tensor:
    inputs = torch.cat(ctx.inputs).to(grad.dtype)
    steps = grad[: len(ctx.inputs)].flatten(0, 1)
    return (steps.t() @ inputs).to(ctx.dtype)


class LayerSteps(ABC):
    """The steps of one layer of a kernel.

    Args:
        weights: of the layer.
        known: (N, T, E), the first E features of its inputs.
    """

    @abstractmethod
    def __init__(self, weights: Weights, known: Tensor) -> None: ...

    @abstractmethod
    def __call__(self, t: int, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state after step t, from the inputs' other features (N, F) and the state before."""


class JointSteps(LayerSteps):
    """A layer whose gates are sums over input and state alike: one product for both."""

    def __init__(self, weights: Weights, known: Tensor) -> None:
        w_ih, w_hh, b_ih, b_hh = weights
        size = known.shape[-1]
        shares = F.linear(known.transpose(0, 1), w_ih[:, :size], b_ih + b_hh)
        self._product = Product(shares, w_ih[:, size:], w_hh)

    def gates(self, t: int, x: Tensor, h: Tensor) -> Tensor:
        """(N, G)."""
        return self._product(t, x, h)


class LSTMSteps(JointSteps):
    """A layer of an LSTM."""

    def __call__(self, t: int, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `LayerSteps`."""
        h, c = state
        return lstm_cell(self.gates(t, x, h), c)


class TanhSteps(JointSteps):
    """A layer of an Elman network."""

    def __call__(self, t: int, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `LayerSteps`."""
        return (self.gates(t, x, state[0]).tanh(),)


class ReLUSteps(JointSteps):
    """A layer of an Elman network with max(0, ·)."""

    def __call__(self, t: int, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `LayerSteps`."""
        return (self.gates(t, x, state[0]).relu(),)


class GRUSteps(LayerSteps):
    """A layer of a GRU, where the reset gate comes between the two products."""

    def __init__(self, weights: Weights, known: Tensor) -> None:
        w_ih, w_hh, b_ih, b_hh = weights
        size = known.shape[-1]
        shares = F.linear(known.transpose(0, 1), w_ih[:, :size], b_ih)
        self._input = Product(shares, w_ih[:, size:])
        self._hidden = Product(b_hh.expand_as(shares), w_hh)

    def __call__(self, t: int, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `LayerSteps`."""
        (h,) = state
        return (gru_cell(self._input(t, x), self._hidden(t, h), h),)
