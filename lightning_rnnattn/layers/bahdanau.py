"""The decoder of Bahdanau, Cho and Bengio.

Letters: B batch, K hypotheses of a sentence, N = B·K, T target time, S source time, H heads, D features.
"""

from functools import partial

import torch
from torch import Tensor

from lightning_rnnattn.layers.attention import Attention, AttentionFactory, Memory
from lightning_rnnattn.layers.combine import Attentional, CombineFactory
from lightning_rnnattn.layers.decoder import Decoder, DecoderState, stack_weights
from lightning_rnnattn.layers.kernels import GRU
from lightning_rnnattn.layers.rnn import RNNFactory
from lightning_rnnattn.layers.steps import stack, unstack
from lightning_rnnattn.scores import AdditiveScore


class BahdanauDecoder(Decoder):
    r"""Attends from the state before, and reads what it found (Bahdanau et al. 2015, section 3.1).

    .. math::
        c_i &= \mathrm{attention}(s_{i-1}, h), \qquad
        s_i = f([E y_{i-1}; c_i], s_{i-1}) \\
        t_i &= \mathrm{combine}(s_i, [c_i; E y_{i-1}])

    The output layer reads :math:`t_i`, a function of :math:`y_{i-1}`, :math:`s_i` and :math:`c_i` as in their equation
    4; they take a maxout layer for it, `Attentional` is a layer of tanh. With several layers the uppermost attends, and
    the lowest reads.

    Args:
        input_size: features of a target token's embedding.
        memory_size: features of an encoder's output.
        rnn: makes the recurrent network from its input size; it reads forward only.
        attention: makes the attention from (query_dim, key_dim); None for one with `AdditiveScore`.
        combine: makes the layer before the output layer.

    Raises:
        UserError: see `Decoder`.

    Example:
        >>> decoder = BahdanauDecoder(input_size=8, memory_size=6, rnn=partial(GRU, hidden_size=5))
        >>> memory = decoder.memory(torch.randn(2, 7, 6))
        >>> features, weights = decoder(torch.randn(2, 3, 8), decoder.start(torch.zeros(1, 2, 5)), memory, True)
        >>> features.shape, weights.shape
        (torch.Size([2, 3, 5]), torch.Size([2, 1, 3, 7]))
    """

    def __init__(
        self,
        input_size: int,
        memory_size: int,
        rnn: RNNFactory = GRU,
        attention: AttentionFactory | None = None,
        combine: CombineFactory = Attentional,
    ) -> None:
        super().__init__(
            input_size, memory_size, memory_size, rnn, attention or partial(Attention, score=AdditiveScore)
        )
        self.combine = combine(self.output_size, self.attention.value_dim + input_size)

    def unroll(
        self, inputs: Tensor, state: DecoderState, memory: Memory, need_weights: bool = False
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """See `Decoder.unroll`."""
        batch, num_hypotheses, num_steps, _ = inputs.shape
        steps = self.rnn.steps(inputs.flatten(0, 1))
        attend = self.attention.steps(memory, num_steps, num_hypotheses, need_weights=need_weights)
        layers = unstack(state.rows())
        hidden, contexts, weights = [], [], []
        for t in range(num_steps):
            query = layers[-1][0].view(batch, num_hypotheses, -1)
            context, found = attend(query)
            output, layers = steps(t, context.flatten(0, 1), layers)
            hidden.append(output)
            contexts.append(context.flatten(0, 1))
            weights.append(found)
        shape = (batch, num_hypotheses, num_steps, -1)
        beside = torch.cat([torch.stack(contexts, 1).view(shape), inputs], dim=-1)
        features = self.combine(torch.stack(hidden, 1).view(shape), beside)
        return features, DecoderState.of(stack(layers), batch), stack_weights(weights)
