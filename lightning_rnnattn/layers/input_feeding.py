"""The decoder of Luong, Pham and Manning, with input feeding.

Letters: B batch, K hypotheses of a sentence, T target time, S source time, H heads, D features.
"""

from functools import partial

import torch
from torch import Tensor

from lightning_rnnattn.layers.attention import Attention, AttentionFactory, Memory
from lightning_rnnattn.layers.combine import Attentional, CombineFactory
from lightning_rnnattn.layers.decoder import Decoder, DecoderState, stack_weights
from lightning_rnnattn.layers.kernels import LSTM
from lightning_rnnattn.layers.rnn import RNNFactory, State
from lightning_rnnattn.layers.steps import stack, unstack
from lightning_rnnattn.scores import GeneralScore


class InputFeedingDecoder(Decoder):
    r"""Attends after the recurrent network, and feeds the result into its next step (Luong et al. 2015, section 3.3).

    .. math::
        s_t = f([E y_{t-1}; \tilde s_{t-1}], s_{t-1}), \qquad
        c_t = \mathrm{attention}(s_t, h), \qquad
        \tilde s_t = \mathrm{combine}(s_t, c_t), \qquad \tilde s_0 = 0

    So each step knows what was attended to before. The price is a loop over the target.

    Args:
        input_size: features of a target token's embedding.
        memory_size: features of an encoder's output.
        rnn: makes the recurrent network from its input size; it reads forward only.
        attention: makes the attention from (query_dim, key_dim); None for one with `GeneralScore`.
        combine: makes the layer that joins output and context.

    Raises:
        UserError: see `Decoder`.
    """

    def __init__(
        self,
        input_size: int,
        memory_size: int,
        rnn: RNNFactory = LSTM,
        attention: AttentionFactory | None = None,
        combine: CombineFactory = Attentional,
    ) -> None:
        with torch.device("meta"):  # the factory alone knows the size of what will be fed back
            fed_size = rnn(input_size).output_size
        super().__init__(input_size, memory_size, fed_size, rnn, attention or partial(Attention, score=GeneralScore))
        self.combine = combine(self.output_size, self.attention.value_dim)

    def start(self, state: State) -> DecoderState:
        """See `Decoder.start`."""
        rnn, _ = super().start(state)
        h = rnn if isinstance(rnn, Tensor) else rnn[0]
        return DecoderState(rnn, torch.zeros_like(h[0]))

    def unroll(
        self, inputs: Tensor, state: DecoderState, memory: Memory, need_weights: bool = False
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """See `Decoder.unroll`."""
        assert state.fed is not None
        batch, num_hypotheses, num_steps, _ = inputs.shape
        steps = self.rnn.steps(inputs.flatten(0, 1))
        attend = self.attention.steps(memory, num_steps, num_hypotheses, need_weights=need_weights)
        layers, fed = unstack(state.rows()), state.fed.flatten(0, 1)
        features, weights = [], []
        for t in range(num_steps):
            hidden, layers = steps(t, fed, layers)
            query = hidden.view(batch, num_hypotheses, -1)
            context, found = attend(query)
            fed = self.combine(hidden, context.flatten(0, 1))
            features.append(fed)
            weights.append(found)
        output = torch.stack(features, 1).unflatten(0, (batch, -1))
        return output, DecoderState.of(stack(layers), batch, output[:, :, -1]), stack_weights(weights)
