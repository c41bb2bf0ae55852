"""Recurrent networks whose gates see the input only, so that all steps of a layer are one scan (Feng et al. 2024).

Letters: B batch, T time, N hidden_size.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_rnnattn.layers.rnn import StackedRNN, State
from lightning_rnnattn.ops.masks import lengths_mask
from lightning_rnnattn.ops.scan import gated_scan


class MinRNN(StackedRNN):
    """A stack of layers that forget as much as they take in, with gates that depend on the input of a step alone.

    A layer's products run over all steps at once, and `gated_scan` makes its states; nothing else is sequential. For
    the arguments see `StackedRNN`.

    Attributes:
        num_parts: how many linear maps of the input there are: update and candidate; or these and forget.
    """

    num_parts: ClassVar[int]

    def build_kernel(self, input_size: int, hidden_size: int, num_layers: int) -> nn.Module:
        """The linear maps of a layer, those of the second direction after those of the first."""
        return nn.Linear(input_size, self.num_parts * hidden_size * self.directions)

    def run(self, kernel: nn.Module, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        """One layer, both directions; see `StackedRNN.run`."""
        mask = None if lengths is None else lengths_mask(lengths, x.shape[1]).to(x.device).unsqueeze(-1)
        parts = kernel(x).chunk(self.num_parts * self.directions, dim=-1)
        outputs, states = [], []
        for direction in range(self.directions):
            update, candidate, *forget = parts[direction * self.num_parts : (direction + 1) * self.num_parts]
            if mask is not None:
                update = update.masked_fill(~mask, -torch.inf)  # past the end the state stays
            assert state is None or isinstance(state, Tensor)
            before = None if state is None else state[direction]
            h = gated_scan(update, candidate, forget[0] if forget else None, before, reverse=direction == 1)
            states.append(h[:, 0 if direction == 1 else -1])
            outputs.append(h)
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
        return output if mask is None else output.masked_fill(~mask, 0.0), torch.stack(states)


class MinGRU(MinRNN):
    r"""The gated recurrent unit without its reset gate, its update gate of the input alone (Feng et al. 2024).

    .. math::
        z_t &= \sigma(W_z x_t + b_z), \quad \tilde h_t = g(W_h x_t + b_h) \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t

    with :math:`g(x) = x + \frac{1}{2}` for :math:`x \ge 0`, else :math:`\sigma(x)`, as in the paper's appendix B; see
    `gated_scan`. For the arguments see `StackedRNN`.
    """

    num_parts = 2


class MinLSTM(MinRNN):
    r"""The LSTM without its output gate, its gates of the input alone and of sum one (Feng et al. 2024).

    .. math::
        f_t &= \sigma(W_f x_t + b_f), \quad i_t = \sigma(W_i x_t + b_i), \quad \tilde h_t = g(W_h x_t + b_h) \\
        h_t &= \frac{f_t}{f_t + i_t} \odot h_{t-1} + \frac{i_t}{f_t + i_t} \odot \tilde h_t

    with g as in `MinGRU`; the state is h alone. The quotients hold where both gates underflow. For the arguments see
    `StackedRNN`.
    """

    num_parts = 3
