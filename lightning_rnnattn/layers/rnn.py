"""One interface for every recurrent network.

Letters: B batch, T time, D features, L layers times directions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers.steps import (
    CallSteps,
    GRUSteps,
    KernelSteps,
    LayerSteps,
    LSTMSteps,
    ReLUSteps,
    Steps,
    TanhSteps,
)
from lightning_rnnattn.ops.masks import lengths_mask

State = Tensor | tuple[Tensor, Tensor]
"""A recurrent network's state in torch's layout: (L, B, hidden_size), or for the LSTM a pair (h, c) of such."""


def map_state(function: Callable[..., Tensor], *states: State) -> State:
    """Applies a function to the tensors of states of one form."""
    if isinstance(states[0], Tensor):
        return function(*states)
    first, second = (function(*parts) for parts in zip(*states, strict=True))
    return first, second


class RNN(nn.Module, ABC):
    """A recurrent network over batch-first sequences, its state explicit.

    Attributes:
        input_size: features of an input.
        hidden_size: features of a state.
        output_size: features of an output, both directions together.
    """

    input_size: int
    hidden_size: int
    output_size: int

    @abstractmethod
    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """Runs over a sequence, or over its next piece.

        Args:
            x: (B, T, input_size).
            state: the state before the first step; zeros where None.
            lengths: (B,) integers on the CPU (so that no step waits for a device), zero allowed; None where every
                sequence has T steps.

        Returns:
            Output (B, T, output_size), zeros past each sequence's end; and the state after each sequence's last step.
        """

    def steps(self, known: Tensor) -> Steps:
        """Prepares to read inputs one by one, of which the last features come with each step.

        Args:
            known: (B, T, E), the inputs' first features; E is at most ``input_size``.
        """
        return CallSteps(self, known)


RNNFactory = Callable[[int], RNN]
"""Makes a recurrent network from input_size: a class, or a ``functools.partial`` of one."""


class KernelRNN(RNN):
    """A stack of torch's fused recurrent kernels; a subclass says which, in `build_kernel`.

    Args:
        input_size: features of an input.
        hidden_size: features of a state.
        num_layers: layers, each reading the outputs of the one below.
        bidirectional: a second network reads each layer's input backwards; outputs are concatenated.
        dropout: probability of dropping a feature between layers, in training.
        residual: add each layer's input to its output, where both have one size.
        layer_norm: normalise the inputs of every layer but the first.

    Attributes:
        layer_steps: what a layer does step by step, from its weights; None to call the kernel at each step.

    Raises:
        UserError: if a size or a probability is out of range.
    """

    layer_steps: type[LayerSteps] | None = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 256,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        residual: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if size < 1:
                raise UserError(f"{name}={size}: {type(self).__name__} needs at least 1")
        if not 0.0 <= dropout < 1.0:
            raise UserError(f"dropout={dropout} is not a probability in [0, 1)")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.residual = residual
        self.output_size = hidden_size * (2 if bidirectional else 1)

        # What happens between layers decides how many of them one kernel call can take.
        depth = 1 if residual or layer_norm else num_layers
        sizes = [input_size] + [self.output_size] * (num_layers // depth - 1)
        self.kernels = nn.ModuleList(self.build_kernel(size, depth) for size in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(size) if layer_norm else nn.Identity() for size in sizes[1:])

    @abstractmethod
    def build_kernel(self, input_size: int, num_layers: int) -> nn.RNNBase:
        """Makes torch's module for ``num_layers`` layers; `kernel_options` are its common arguments."""

    def kernel_options(self, num_layers: int) -> dict[str, int | float | bool]:
        """The arguments that torch's recurrent modules have in common."""
        return {
            "hidden_size": self.hidden_size,
            "num_layers": num_layers,
            "batch_first": True,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout if num_layers > 1 else 0.0,
        }

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """See `RNN.forward`."""
        if len(self.kernels) == 1:
            return _run(self.kernels[0], x, state, lengths)
        if lengths is not None:  # a residual would carry the padding to the output
            x = x.masked_fill(~lengths_mask(lengths, x.shape[1]).to(x.device).unsqueeze(-1), 0.0)
        directions = 2 if self.bidirectional else 1
        states: list[State] = []
        for i, kernel in enumerate(self.kernels):
            inputs = x if i == 0 else F.dropout(self.norms[i - 1](x), self.dropout, self.training)
            layer = slice(i * directions, (i + 1) * directions)
            before = None if state is None else map_state(lambda s, layer=layer: s[layer].contiguous(), state)
            output, after = _run(kernel, inputs, before, lengths)
            x = output + x if self.residual and output.shape == x.shape else output
            states.append(after)
        return x, map_state(lambda *layers: torch.cat(layers), *states)

    def steps(self, known: Tensor) -> Steps:
        """See `RNN.steps`."""
        if self.layer_steps is None or len(self.kernels) > 1:
            return super().steps(known)
        return KernelSteps(self.kernels[0], known, self.layer_steps, self.dropout if self.training else 0.0)


class Elman(KernelRNN):
    r"""The simple recurrent network (Elman 1990).

    .. math:: h_t = \tanh(W_{hh} h_{t-1} + W_{xh} x_t + b_h)

    torch keeps the bias as a sum of two. The textbook's output layer, :math:`y_t = W_{hy} h_t + b_y`, is whatever
    reads h.

    Args:
        input_size: features of an input.
        hidden_size: features of a state.
        relu: max(0, ·) in place of tanh.
        options: see `KernelRNN`.
    """

    def __init__(self, input_size: int, hidden_size: int = 256, *, relu: bool = False, **options: Any) -> None:
        self.relu = relu
        self.layer_steps = ReLUSteps if relu else TanhSteps
        super().__init__(input_size, hidden_size, **options)

    def build_kernel(self, input_size: int, num_layers: int) -> nn.RNNBase:
        """See `KernelRNN.build_kernel`."""
        nonlinearity = "relu" if self.relu else "tanh"
        return nn.RNN(input_size, nonlinearity=nonlinearity, **self.kernel_options(num_layers))


class LSTM(KernelRNN):
    r"""Long short-term memory (Hochreiter and Schmidhuber 1997; with the forget gate of Gers et al. 2000).

    .. math::
        i, f, o &= \sigma(W x_t + U h_{t-1} + b), \quad g = \tanh(W_g x_t + U_g h_{t-1} + b_g) \\
        c_t &= f \odot c_{t-1} + i \odot g, \quad h_t = o \odot \tanh(c_t)

    The state is the pair (h, c). For the arguments see `KernelRNN`.
    """

    layer_steps = LSTMSteps

    def build_kernel(self, input_size: int, num_layers: int) -> nn.RNNBase:
        """See `KernelRNN.build_kernel`."""
        return nn.LSTM(input_size, **self.kernel_options(num_layers))


class GRU(KernelRNN):
    r"""Gated recurrent unit (Cho et al. 2014, in the form of cuDNN, the reset gate after the product).

    .. math::
        r, z &= \sigma(W x_t + U h_{t-1} + b), \quad n = \tanh(W_n x_t + b_n + r \odot (U_n h_{t-1} + b'_n)) \\
        h_t &= (1 - z) \odot n + z \odot h_{t-1}

    For the arguments see `KernelRNN`.
    """

    layer_steps = GRUSteps

    def build_kernel(self, input_size: int, num_layers: int) -> nn.RNNBase:
        """See `KernelRNN.build_kernel`."""
        return nn.GRU(input_size, **self.kernel_options(num_layers))


def _run(kernel: nn.Module, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
    """One call of a torch recurrent module, over padded sequences where there are lengths."""
    if lengths is None:
        output, state = kernel(x, state)
        return output, state
    lengths = lengths.cpu()
    # Packing knows no empty sequence: it runs as one step, whose traces are removed.
    packed = pack_padded_sequence(x, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
    output, after = kernel(packed, state)
    output, _ = pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
    if lengths.min() == 0:
        empty = (lengths == 0).to(x.device)
        output = output.masked_fill(empty[:, None, None], 0.0)
        before = map_state(torch.zeros_like, after) if state is None else state
        after = map_state(lambda old, new: torch.where(empty[:, None], old, new), before, after)
    return output, after
