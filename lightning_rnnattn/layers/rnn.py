"""One interface for every recurrent network.

Letters: B batch, T time, D features, L layers times directions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn.errors import require_positive, require_probability
from lightning_rnnattn.layers.dropout import LockedDropout
from lightning_rnnattn.layers.steps import CallSteps, Steps
from lightning_rnnattn.ops.masks import lengths_mask
from lightning_rnnattn.ops.native import traced

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
        bidirectional: whether the second half of an output was computed from the end.
    """

    input_size: int
    hidden_size: int
    output_size: int
    bidirectional: bool = False

    @property
    def directions(self) -> int:
        """2 for a bidirectional network, else 1."""
        return 2 if self.bidirectional else 1

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


class StackedRNN(RNN):
    """A stack of recurrent layers; a subclass says what runs them, in `build_kernel` and `run`.

    Args:
        input_size: features of an input.
        hidden_size: features of a state.
        num_layers: layers, each reading the outputs of the one below.
        last_size: features of the last layer's state, where they are not ``hidden_size``. (The state has the larger of
            the two for every layer; what a layer does not use is zero.)
        bidirectional: a second network reads each layer's input backwards; outputs are concatenated.
        dropout: probability of dropping a feature between layers, in training.
        locked_dropout: the same, with one mask for all steps of a sequence: see `LockedDropout`.
        residual: add each layer's input to its output, where both have one size.
        layer_norm: normalise the inputs of every layer but the first.

    Attributes:
        fuses_layers: whether a kernel takes several layers where nothing but dropout lies between them.
        reads_padding: whether what `run` runs is reached by what lies past the lengths.
        hidden_sizes: features of each layer's state.

    Raises:
        UserError: if a size or a probability is out of range.
    """

    fuses_layers: ClassVar[bool] = False
    reads_padding: ClassVar[bool] = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 256,
        *,
        num_layers: int = 1,
        last_size: int | None = None,
        bidirectional: bool = False,
        dropout: float = 0.0,
        locked_dropout: float = 0.0,
        residual: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        last_size = hidden_size if last_size is None else last_size
        require_positive(
            self, input_size=input_size, hidden_size=hidden_size, last_size=last_size, num_layers=num_layers
        )
        require_probability(dropout=dropout, locked_dropout=locked_dropout)
        self.bidirectional = bidirectional
        self.input_size = input_size
        self.hidden_sizes = [hidden_size] * (num_layers - 1) + [last_size]
        self.hidden_size = max(self.hidden_sizes)
        self.output_size = last_size * self.directions
        self.num_layers = num_layers
        self.dropout = dropout
        self.residual = residual

        # What happens between layers decides how many of them one kernel can take.
        apart = residual or layer_norm or locked_dropout > 0 or last_size != hidden_size or not self.fuses_layers
        depth = 1 if apart else num_layers
        inputs = [input_size, *(self.directions * size for size in self.hidden_sizes[:-1])]
        self.kernels = nn.ModuleList(
            self.build_kernel(inputs[i], self.hidden_sizes[i], depth) for i in range(0, num_layers, depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) if layer_norm else nn.Identity() for size in inputs[1:])
        self.locked_dropout = LockedDropout(locked_dropout)

    @abstractmethod
    def build_kernel(self, input_size: int, hidden_size: int, num_layers: int) -> nn.Module:
        """Makes what `run` runs, for ``num_layers`` layers: more than one only where `fuses_layers`."""

    @abstractmethod
    def run(self, kernel: nn.Module, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Runs the layers of one kernel; otherwise as `RNN.forward`."""

    def between(self, i: int, x: Tensor) -> Tensor:
        """What layer i + 1 reads of what layer i made, (..., D), but for `locked_dropout`."""
        return F.dropout(self.norms[i](x), self.dropout, self.training)

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """See `RNN.forward`.

        Raises:
            ValueError: if lengths or state are not of this batch and stack.
        """
        if not traced():  # where sizes are no numbers
            self._check(x, state, lengths)
        alone = len(self.kernels) == 1 and not self.residual
        # The padding may hold anything, and a residual would carry it to the output.
        if lengths is not None and (self.reads_padding or not alone):
            x = x.masked_fill(~lengths_mask(lengths, x.shape[1]).to(x.device).unsqueeze(-1), 0.0)
        if alone:
            return self.run(self.kernels[0], x, state, lengths)
        states: list[State] = []
        for i, kernel in enumerate(self.kernels):
            inputs = x if i == 0 else self.locked_dropout(self.between(i - 1, x))
            before = None if state is None else map_state(lambda s, i=i: self._of_layer(i, s), state)
            output, after = self.run(kernel, inputs, before, lengths)
            x = output + x if self.residual and output.shape == x.shape else output
            states.append(map_state(lambda s: F.pad(s, (0, self.hidden_size - s.shape[-1])), after))
        return x, map_state(lambda *layers: torch.cat(layers), *states)

    def _check(self, x: Tensor, state: State | None, lengths: Tensor | None) -> None:
        if lengths is not None:
            fits = isinstance(lengths, Tensor) and lengths.shape == x.shape[:1]
            if not fits or lengths.dtype not in (torch.int64, torch.int32):
                raise ValueError(f"lengths must be a tensor of {len(x)} integers, one of each sequence: {lengths!r}")
            seen = lengths.device.type == "cpu" and not torch.compiler.is_compiling() and lengths.numel() > 0
            if seen and not 0 <= lengths.min() <= lengths.max() <= x.shape[1]:
                raise ValueError(f"lengths must lie between 0 and the {x.shape[1]} steps of a sequence: {lengths!r}")
        for part in () if state is None else (state,) if isinstance(state, Tensor) else state:
            expected = self.num_layers * self.directions, len(x), self.hidden_size
            if part.shape != expected:
                raise ValueError(f"a state of {tuple(part.shape)}: this network's for such a batch is {expected}")

    def _of_layer(self, i: int, state: Tensor) -> Tensor:
        return state[i * self.directions : (i + 1) * self.directions, :, : self.hidden_sizes[i]].contiguous()
