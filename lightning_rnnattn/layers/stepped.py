"""LSTMs that are run step by step, since torch's fused kernels cannot do what they do.

Letters: B batch, T time, H hidden size, L layers.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn.errors import require_positive, require_probability
from lightning_rnnattn.layers.rnn import RNN, State
from lightning_rnnattn.layers.steps import Product
from lightning_rnnattn.ops.masks import lengths_mask


class ZoneoutLSTM(RNN):
    r"""LSTM whose units sometimes keep their state for a step (zoneout; Krueger et al. 2017, equations 4 to 6).

    .. math::
        c_t = d^c_t \odot c_{t-1} + (1 - d^c_t) \odot \tilde c_t, \qquad
        h_t = d^h_t \odot h_{t-1} + (1 - d^h_t) \odot o_t \odot \tanh(\tilde c_t)

    In training d is 1 with the given probability, drawn for each unit and step; otherwise it is that probability.
    The candidates are those of `LSTM`.

    Args:
        input_size: features of an input.
        hidden_size: features of a state.
        num_layers: layers, each reading the outputs of the one below.
        dropout: probability of dropping a feature between layers, in training.
        zoneout: probability of keeping a feature of the output h.
        cell_zoneout: probability of keeping a feature of the cell c.

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
        num_layers: int = 1,
        dropout: float = 0.0,
        zoneout: float = 0.0,
        cell_zoneout: float = 0.0,
    ) -> None:
        super().__init__()
        require_positive(self, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        require_probability(dropout=dropout, zoneout=zoneout, cell_zoneout=cell_zoneout)
        self.input_size = input_size
        self.hidden_size = self.output_size = hidden_size
        self.dropout, self.zoneout, self.cell_zoneout = dropout, zoneout, cell_zoneout
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.input_layers = nn.ModuleList(nn.Linear(size, 4 * hidden_size, bias=False) for size in sizes)
        self.recurrent_layers = nn.ModuleList(nn.Linear(hidden_size, 4 * hidden_size, bias=False) for _ in sizes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(4 * hidden_size)) for _ in sizes)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))
        # What is normalised: the inputs' share of the gates, the state's share, and the cell.
        self.input_norms = nn.ModuleList(self.build_norm(4 * hidden_size) for _ in sizes)
        self.recurrent_norms = nn.ModuleList(self.build_norm(4 * hidden_size) for _ in sizes)
        self.cell_norms = nn.ModuleList(self.build_norm(hidden_size) for _ in sizes)

    def build_norm(self, size: int) -> nn.Module:
        """Makes what normalises ``size`` features; nothing here."""
        return nn.Identity()

    def forward(self, x: Tensor, state: State | None = None, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        """See `RNN.forward`."""
        if state is None:
            zeros = x.new_zeros(len(self.biases), x.shape[0], self.hidden_size)
            state = zeros, zeros
        real = None
        if lengths is not None:
            real = lengths_mask(lengths, x.shape[1]).to(x.device).unsqueeze(-1)
        hidden, cell = state
        last_hidden, last_cell = [], []
        for layer in range(len(self.biases)):
            inputs = F.dropout(x, self.dropout, self.training) if layer else x
            x, h, c = self._run_layer(layer, inputs, hidden[layer], cell[layer], real)
            last_hidden.append(h)
            last_cell.append(c)
        return x, (torch.stack(last_hidden), torch.stack(last_cell))

    def _run_layer(
        self, layer: int, x: Tensor, h: Tensor, c: Tensor, real: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Whatever does not depend on the state is out of the loop.
        from_input = (self.input_norms[layer](self.input_layers[layer](x)) + self.biases[layer]).transpose(0, 1)
        keep_h, keep_c = self._keep(self.zoneout, x), self._keep(self.cell_zoneout, x)
        weight: Tensor = self.recurrent_layers[layer].weight  # type: ignore[assignment]
        recurrent = Product(torch.zeros_like(from_input[:1]).expand_as(from_input), weight)
        outputs = []
        for t, inputs in enumerate(from_input.unbind(0)):
            gates = inputs + self.recurrent_norms[layer](recurrent(t, h))
            i, f, g, o = gates.chunk(4, dim=-1)
            new_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            new_h = o.sigmoid() * self.cell_norms[layer](new_c).tanh()
            new_c, new_h = torch.lerp(new_c, c, keep_c[:, t]), torch.lerp(new_h, h, keep_h[:, t])
            if real is not None:
                new_c, new_h = torch.where(real[:, t], new_c, c), torch.where(real[:, t], new_h, h)
            c, h = new_c, new_h
            outputs.append(h)
        output = torch.stack(outputs, dim=1)
        return output if real is None else output * real, h, c

    def _keep(self, p: float, x: Tensor) -> Tensor:
        """Which share of the state is kept, (B, T, H) in training."""
        keep = x.new_full((*x.shape[:2], self.hidden_size), p)
        return torch.bernoulli(keep) if self.training and p else keep


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
