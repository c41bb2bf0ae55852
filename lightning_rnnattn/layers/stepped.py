"""LSTMs that are run step by step, since torch's fused kernels cannot do what they do.

Letters: B batch, T time, H hidden size.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import require_probability
from lightning_rnnattn.layers.rnn import StackedRNN, State
from lightning_rnnattn.layers.step_product import Product
from lightning_rnnattn.ops.masks import lengths_mask


class ZoneoutLSTM(StackedRNN):
    r"""LSTM whose units sometimes keep their state for a step (zoneout; Krueger et al. 2017, equations 4 to 6).

    .. math::
        c_t = d^c_t \odot c_{t-1} + (1 - d^c_t) \odot \tilde c_t, \qquad
        h_t = d^h_t \odot h_{t-1} + (1 - d^h_t) \odot o_t \odot \tanh(\tilde c_t)

    In training d is 1 with the given probability, drawn for each unit and step; otherwise it is that probability.
    The candidates are those of `LSTM`.

    Args:
        input_size: features of an input.
        hidden_size: features of a state.
        zoneout: probability of keeping a feature of the output h.
        cell_zoneout: probability of keeping a feature of the cell c.
        options: see `StackedRNN`.

    Raises:
        UserError: if a size or a probability is out of range.

    Example:
        >>> output, (h, c) = ZoneoutLSTM(4, hidden_size=8, zoneout=0.1, cell_zoneout=0.3)(torch.zeros(2, 5, 4))
        >>> output.shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int = 256,
        *,
        zoneout: float = 0.0,
        cell_zoneout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, **options)
        require_probability(zoneout=zoneout, cell_zoneout=cell_zoneout)
        self.zoneout, self.cell_zoneout = zoneout, cell_zoneout

    def build_kernel(self, input_size: int, hidden_size: int, num_layers: int) -> nn.Module:
        """A layer, which is a `Direction` or two."""
        return nn.ModuleList(Direction(input_size, hidden_size, self.build_norm) for _ in range(self.directions))

    def build_norm(self, size: int) -> nn.Module:
        """Makes what normalises ``size`` features inside of the recurrence; nothing here."""
        return nn.Identity()

    def run(self, kernel: nn.Module, x: Tensor, state: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        """One layer, both directions; see `StackedRNN.run`."""
        assert isinstance(kernel, nn.ModuleList)
        real = None if lengths is None else lengths_mask(lengths, x.shape[1]).to(x.device).unsqueeze(-1)
        outputs, hidden, cell = [], [], []
        for i, direction in enumerate(kernel):
            assert isinstance(direction, Direction)
            size = direction.hidden_size
            # Under autocast inputs may be in half precision; gates, with their bias, are not.
            dtype = torch.promote_types(x.dtype, direction.bias.dtype)
            zeros = x.new_zeros(len(x), size)
            h, c = (part.to(dtype) for part in ((zeros, zeros) if state is None else (state[0][i], state[1][i])))
            keep_h, keep_c = (self._keep(p, h, x.shape[1]) for p in (self.zoneout, self.cell_zoneout))
            # Past the end the state stays: backwards the padding comes first, and changes nothing.
            inputs, mask = (x.flip(1), None if real is None else real.flip(1)) if i else (x, real)
            output, h, c = direction(inputs, h, c, keep_h, keep_c, mask)
            outputs.append(output.flip(1) if i else output)
            hidden.append(h)
            cell.append(c)
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
        return output if real is None else output * real, (torch.stack(hidden), torch.stack(cell))

    def _keep(self, p: float, state: Tensor, num_steps: int) -> Tensor:
        """Which share of a state (B, H) is kept at each step, (B, T, H)."""
        keep = state.new_full((state.shape[0], num_steps, state.shape[-1]), p)
        return torch.bernoulli(keep) if self.training and p else keep


class Direction(nn.Module):
    """One direction of a layer, step by step.

    Args:
        input_size: features of an input.
        hidden_size: features of a state.
        build_norm: makes what normalises so many features.
    """

    def __init__(self, input_size: int, hidden_size: int, build_norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.input = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.recurrent = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))
        # What is normalised: the inputs' share of the gates, the state's share, and the cell.
        self.input_norm, self.recurrent_norm = build_norm(4 * hidden_size), build_norm(4 * hidden_size)
        self.cell_norm = build_norm(hidden_size)

    def forward(
        self, x: Tensor, h: Tensor, c: Tensor, keep_h: Tensor, keep_c: Tensor, real: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Runs over a sequence.

        Args:
            x: (B, T, input_size).
            h: (B, H), the output before the first step.
            c: (B, H), the cell before it.
            keep_h: (B, T, H), the share of h that stays.
            keep_c: (B, T, H), that of c.
            real: (B, T, 1) bool, the steps that are none of padding; None for all. At the others, the state stays.

        Returns:
            The outputs (B, T, H), and h and c after the last step.
        """
        # Whatever does not depend on the state is out of the loop.
        from_input = (self.input_norm(self.input(x)) + self.bias).transpose(0, 1)
        recurrent = Product(torch.zeros_like(from_input[:1]).expand_as(from_input), self.recurrent.weight)
        outputs = []
        for t, inputs in enumerate(from_input.unbind(0)):
            gates = inputs + self.recurrent_norm(recurrent(t, h))
            i, f, g, o = gates.chunk(4, dim=-1)
            new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            new_h = o.sigmoid() * self.cell_norm(new_c).tanh()
            new_c, new_h = torch.lerp(new_c, c, keep_c[:, t]), torch.lerp(new_h, h, keep_h[:, t])
            if real is not None:
                new_c, new_h = torch.where(real[:, t], new_c, c), torch.where(real[:, t], new_h, h)
            c, h = new_c, new_h
            outputs.append(h)
        return torch.stack(outputs, dim=1), h, c


class LayerNormLSTM(ZoneoutLSTM):
    r"""LSTM with layer normalisation inside of the recurrence (Ba et al. 2016, equations 20 to 22).

    .. math::
        (i, f, g, o) = \mathrm{LN}(W x_t) + \mathrm{LN}(U h_{t-1}) + b, \qquad
        h_t = o \odot \tanh(\mathrm{LN}(c_t))

    Each LN has a gain and a bias of its own. For the arguments see `ZoneoutLSTM`.
    """

    def build_norm(self, size: int) -> nn.Module:
        """Layer normalisation."""
        return nn.LayerNorm(size)
