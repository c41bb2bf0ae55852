"""A recurrent network read step by step, where a part of each input is only known when its step comes.

An attentional decoder feeds back what it has just computed. What is known beforehand, the embeddings' share of the
gates, is taken out of the loop as one product; so is the weights' gradient.

Letters: N rows, T time, E features known beforehand, F features fed back, D hidden_size, G gates times D.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.layers.step_product import Product
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
