"""A recurrent network read step by step, where a part of each input is only known when its step comes.

An attentional decoder feeds back what it has just computed. What is known beforehand, the embeddings' share of the
gates, is taken out of the loop as one product; so is the weights' gradient.

Letters: N rows, T time, E features known beforehand, F features fed back, D hidden_size, G gates times D.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

if TYPE_CHECKING:
    from lightning_rnnattn.layers.rnn import RNN, State

Layers = list[tuple[Tensor, ...]]
"""A state layer by layer: (h,), or for the LSTM (h, c), of shape (N, D)."""


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
    """Calls a network of any kind once a step."""

    def __init__(self, rnn: "RNN", known: Tensor) -> None:
        self._rnn, self._known = rnn, known.unbind(1)

    def __call__(self, t: int, fed: Tensor, layers: Layers) -> tuple[Tensor, Layers]:
        """See `Steps`."""
        x = torch.cat([self._known[t], fed], dim=-1)
        output, state = self._rnn(x[:, None], stack(layers))
        return output[:, 0], unstack(state)


class KernelSteps(Steps):
    """Steps of a plain stack of one of torch's networks, from its weights.

    Args:
        kernel: torch's module.
        known: (N, T, E), the part of the inputs that is known beforehand.
        layer: what a layer does.
        dropout: probability of dropping a feature between layers.
    """

    def __init__(self, kernel: nn.Module, known: Tensor, layer: "type[LayerSteps]", dropout: float) -> None:
        depth: int = kernel.num_layers  # type: ignore[assignment]
        inputs = [known] + [known[..., :0]] * (depth - 1)
        self._layers = [layer(kernel, i, x) for i, x in enumerate(inputs)]
        self._dropout = dropout

    def __call__(self, t: int, fed: Tensor, layers: Layers) -> tuple[Tensor, Layers]:
        """See `Steps`."""
        x, after = fed, []
        for i, (layer, before) in enumerate(zip(self._layers, layers, strict=True)):
            state = layer(t, F.dropout(x, self._dropout) if i and self._dropout else x, before)
            after.append(state)
            x = state[0]
        return x, after


class Product:
    """W u + shares[t] at each step t, the gradient of W taken in one product for all steps.

    Args:
        shares: (T, N, G), what was known beforehand.
        weight: (G, U).
    """

    def __init__(self, shares: Tensor, weight: Tensor) -> None:
        self._inputs: list[Tensor] | None = None
        if len(shares) > 1 and torch.is_grad_enabled() and weight.requires_grad:
            self._inputs = []
            shares = _GatherGradient.apply(shares, weight, self._inputs)
            weight = weight.detach()
        self._shares, self._weight = shares.unbind(0), weight.t()

    def __call__(self, t: int, u: Tensor) -> Tensor:
        """(N, U) to (N, G)."""
        if self._inputs is not None:
            self._inputs.append(u.detach())
        return torch.addmm(self._shares[t], u, self._weight)


class _GatherGradient(torch.autograd.Function):
    """Hands the shares on. Their gradient is that of each step's sum, so it gives the gradient of the weight, too."""

    @staticmethod
    def forward(ctx: Any, shares: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        # The list is empty now, and full when the last step, and so the first gradient, has been taken.
        ctx.inputs, ctx.dtype = inputs, weight.dtype
        return shares.view_as(shares)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        inputs = torch.cat(ctx.inputs).to(grad.dtype)
        steps = grad[: len(ctx.inputs)].flatten(0, 1)
        return grad, (steps.t() @ inputs).to(ctx.dtype), None


class LayerSteps(ABC):
    """The steps of one layer of a kernel.

    Args:
        kernel: torch's module.
        layer: which of its layers.
        known: (N, T, E), the first E features of its inputs.
    """

    @abstractmethod
    def __init__(self, kernel: nn.Module, layer: int, known: Tensor) -> None: ...

    @abstractmethod
    def __call__(self, t: int, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The state after step t, from the inputs' other features (N, F) and the state before."""


class JointSteps(LayerSteps):
    """A layer whose gates are sums over input and state alike: one product for both."""

    def __init__(self, kernel: nn.Module, layer: int, known: Tensor) -> None:
        w_ih, w_hh, b_ih, b_hh = _parameters(kernel, layer)
        size = known.shape[-1]
        shares = F.linear(known.transpose(0, 1), w_ih[:, :size], b_ih + b_hh)
        self._product = Product(shares, torch.cat([w_ih[:, size:], w_hh], dim=1))

    def gates(self, t: int, x: Tensor, h: Tensor) -> Tensor:
        """(N, G)."""
        return self._product(t, torch.cat([x, h], dim=-1))


class LSTMSteps(JointSteps):
    """A layer of an LSTM."""

    def __call__(self, t: int, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `LayerSteps`."""
        h, c = state
        i, f, g, o = self.gates(t, x, h).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


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

    def __init__(self, kernel: nn.Module, layer: int, known: Tensor) -> None:
        w_ih, w_hh, b_ih, b_hh = _parameters(kernel, layer)
        size = known.shape[-1]
        shares = F.linear(known.transpose(0, 1), w_ih[:, :size], b_ih)
        self._input = Product(shares, w_ih[:, size:])
        self._hidden = Product(b_hh.expand_as(shares), w_hh)

    def __call__(self, t: int, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """See `LayerSteps`."""
        (h,) = state
        size = h.shape[-1]
        from_x, from_h = self._input(t, x), self._hidden(t, h)
        r, z = (from_x[:, : 2 * size] + from_h[:, : 2 * size]).sigmoid().chunk(2, dim=-1)
        n = torch.addcmul(from_x[:, 2 * size :], r, from_h[:, 2 * size :]).tanh()
        return (n + z * (h - n),)


def _parameters(kernel: nn.Module, layer: int) -> Sequence[Tensor]:
    return [getattr(kernel, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
