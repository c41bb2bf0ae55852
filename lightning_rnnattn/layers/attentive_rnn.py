"""A recurrent network with attention over its own outputs.

Letters: B batch, T time, D features, H heads.
"""

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers.attention import AttentionFactory
from lightning_rnnattn.layers.combine import CombineFactory
from lightning_rnnattn.layers.past import Cache, Past, extend, newest
from lightning_rnnattn.layers.rnn import RNNFactory


class AttentiveRNN(nn.Module):
    r"""Runs forward over a sequence, each step attending to the last W outputs, its own included.

    .. math::
        h_t = \mathrm{RNN}(x_t, h_{t-1}), \qquad
        c_t = \sum_{j=t-W+1}^{t} \alpha_{tj} h_j, \qquad
        \tilde h_t = \mathrm{combine}(h_t, c_t)

    What it returns does not depend on how a sequence is cut into pieces.

    Args:
        input_size: features of an input.
        rnn: makes the recurrent network from its input size. It reads forward only.
        attention: makes the attention from (query_dim, key_dim), with a ``window``; None for the plain network.
        combine: makes the layer that joins output and context.

    Attributes:
        output_size: features of an output.

    Raises:
        UserError: if the recurrent network is bidirectional, or the attention has no window.
    """

    def __init__(
        self, input_size: int, rnn: RNNFactory, attention: AttentionFactory | None, combine: CombineFactory
    ) -> None:
        super().__init__()
        self.rnn = rnn(input_size)
        self.output_size = self.rnn.output_size
        if self.rnn.bidirectional:
            raise UserError("rnn: bidirectional must be false: nothing may be seen before its time")
        self.attention = None if attention is None else attention(self.output_size, self.output_size)
        self.combine = None if self.attention is None else combine(self.output_size, self.attention.value_dim)
        if self.attention is not None and self.attention.window is None:
            raise UserError("attention.window: null: what is carried along must be bounded: give a number, 64 say")
        self.window: int = getattr(self.attention, "window", None) or 1

    def forward(self, x: Tensor, past: Past | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Past]:
        """Reads a piece of a sequence.

        Args:
            x: (B, T, input_size).
            past: what an earlier call returned, for the sequence that this piece continues; None at the start.
            lengths: (B,) real steps of each row, on the CPU; None where all are real.

        Returns:
            Features (B, T, output_size), and what the next piece needs.
        """
        hidden, state = self.rnn(x, None if past is None else past.rnn, lengths)
        if self.attention is None or self.combine is None:
            return hidden, Past(state, None, None)
        outputs, mask = extend(past, hidden)
        context, _ = self.attention(hidden, self.attention.memory(outputs, mask=mask), is_causal=True)
        padding = None if lengths is None else x.shape[1] - lengths
        return self.combine(hidden, context), Past(state, *newest(outputs, mask, self.window - 1, padding))

    def weights(self, x: Tensor) -> Tensor:
        """Where each step looks: (B, H, T, T), for sequences (B, T, input_size) from their beginning.

        Raises:
            UserError: if there is no attention.
        """
        if self.attention is None:
            raise UserError("attention: null: a plain recurrent network has no attention weights")
        hidden, _ = self.rnn(x)
        _, weights = self.attention(hidden, self.attention.memory(hidden), is_causal=True, need_weights=True)
        return weights

    def prefill(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Cache]:
        """Reads beginnings of sequences: features (B, D) of each one's last step, and what `step` needs."""
        features, past = self(x, None, lengths)
        last = features[torch.arange(len(x), device=x.device), (lengths - 1).to(x.device)]
        memory = None
        if self.attention is not None and past.outputs is not None:
            memory = self.attention.memory(past.outputs, mask=past.mask)
        return last, Cache(past.rnn, memory)

    def step(self, x: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """One more step, (B, input_size) to (B, D); its time and memory do not grow with what was read before."""
        hidden, state = self.rnn(x[:, None], cache.rnn)
        features, memory = hidden, cache.memory
        if self.attention is not None and self.combine is not None and memory is not None:
            memory = memory.append(self.attention.memory(hidden)).last(self.window)
            context, _ = self.attention(hidden, memory, is_causal=True)
            features = self.combine(hidden, context)
        return features[:, 0], Cache(state, memory)
