"""The decoder of Luong, Pham and Manning, without input feeding.

Letters: B batch, K hypotheses of a sentence, T target time, S source time, H heads, D features.
"""

from functools import partial

from torch import Tensor

from lightning_rnnattn.layers.attention import Attention, AttentionFactory, Memory
from lightning_rnnattn.layers.combine import Attentional, CombineFactory
from lightning_rnnattn.layers.decoder import Decoder, DecoderState
from lightning_rnnattn.layers.kernels import LSTM
from lightning_rnnattn.layers.rnn import RNNFactory
from lightning_rnnattn.scores import GeneralScore


class LuongDecoder(Decoder):
    r"""Attends after the recurrent network, which never reads what was found (Luong et al. 2015, section 3.1).

    .. math::
        s_t = f(E y_{t-1}, s_{t-1}), \qquad
        c_t = \mathrm{attention}(s_t, h), \qquad
        \tilde s_t = \mathrm{combine}(s_t, c_t)

    With `Attentional`, the last is their equation 5. Nothing in the loop depends on the attention, so a whole target
    takes one call of the recurrent network and one of the attention.

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
        super().__init__(input_size, memory_size, 0, rnn, attention or partial(Attention, score=GeneralScore))
        self.combine = combine(self.output_size, self.attention.value_dim)

    def unroll(
        self, inputs: Tensor, state: DecoderState, memory: Memory, need_weights: bool = False
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """See `Decoder.unroll`."""
        batch, *shape = inputs.shape[:3]
        output, after = self.rnn(inputs.flatten(0, 1), state.rows())
        hidden = output.reshape(batch, -1, self.output_size)  # hypotheses and time: queries all alike
        context, weights = self.attention(hidden, memory, need_weights=need_weights)
        features = self.combine(hidden, context).unflatten(1, shape)
        return features, DecoderState.of(after, batch), None if weights is None else weights.unflatten(2, shape)
