"""What the decoders share: recurrent networks that attend to what an encoder read.

Letters: B batch, K hypotheses of a sentence, T target time, S source time, L layers, H heads, D features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers.attention import AttentionFactory, Memory
from lightning_rnnattn.layers.rnn import RNNFactory, State, map_state


class DecoderState(NamedTuple):
    """What a decoder carries from token to token.

    Attributes:
        rnn: the recurrent network's state, (L, B, K, hidden_size), or for the LSTM a pair of such.
        fed: (B, K, D), what is fed into the next step; None where nothing is.
    """

    rnn: State
    fed: Tensor | None

    @classmethod
    def of(cls, rnn: State, batch_size: int, fed: Tensor | None = None) -> "DecoderState":
        """From the state (L, B·K, hidden_size) of a network to which hypotheses are rows like any other."""
        return cls(map_state(lambda x: x.unflatten(1, (batch_size, -1)), rnn), fed)

    def rows(self) -> State:
        """The recurrent network's state with a row for each hypothesis, (L, B·K, hidden_size)."""
        return map_state(lambda x: x.flatten(1, 2), self.rnn)

    def map(self, function: Callable[[Tensor, int], Tensor]) -> "DecoderState":
        """Applies a function to each tensor and the number of its dimension B, which K follows."""
        fed = None if self.fed is None else function(self.fed, 0)
        return DecoderState(map_state(lambda x: function(x, 1), self.rnn), fed)


class Decoder(nn.Module, ABC):
    """A recurrent network that reads target tokens and attends to a memory.

    `recur` takes one token of each hypothesis, and leaves nothing behind: greedy decoding, sampling, beam search and
    export use it alone. `forward` gives what a loop of `recur` gives, for a target that is known, in less time. Both
    are cases of `unroll`, which is where the wirings differ: subclass this, and implement it.

    Args:
        input_size: features of a target token's embedding.
        memory_size: features of an encoder's output.
        fed_size: features that the recurrent network reads beside the embedding.
        rnn: makes the recurrent network from its input size; it reads forward only.
        attention: makes the attention from (query_dim, key_dim).

    Attributes:
        output_size: features of an output.

    Raises:
        UserError: if the recurrent network is bidirectional or its layers differ in size, or the attention has a
            ``window``, whose positions would be those of the source.
    """

    output_size: int

    def __init__(
        self, input_size: int, memory_size: int, fed_size: int, rnn: RNNFactory, attention: AttentionFactory
    ) -> None:
        super().__init__()
        self.rnn = rnn(input_size + fed_size)
        if self.rnn.bidirectional:
            raise UserError("decoder.rnn: a decoder predicts what comes next: bidirectional must be false")
        if self.rnn.output_size != self.rnn.hidden_size:
            raise UserError("decoder.rnn.last_size: the layers of a decoder have one size: leave it null")
        self.attention = attention(self.rnn.output_size, memory_size)
        if self.attention.window is not None:
            raise UserError(
                f"decoder.attention.window={self.attention.window}: source and target have no positions in common: "
                "leave it null"
            )
        self.output_size = self.rnn.output_size

    def memory(self, encoded: Tensor, mask: Tensor | None = None) -> Memory:
        """Projects what will be attended to, once.

        Args:
            encoded: (B, S, memory_size).
            mask: (B, S) bool, True = attend; None for all.
        """
        return self.attention.memory(encoded, mask=mask)

    def start(self, state: State) -> DecoderState:
        """The state before the first token, of one hypothesis a sentence.

        Args:
            state: of the recurrent network, (L, B, hidden_size), or for the LSTM a pair of such.
        """
        return DecoderState(map_state(lambda x: x.unsqueeze(2), state), None)

    @abstractmethod
    def unroll(
        self, inputs: Tensor, state: DecoderState, memory: Memory, need_weights: bool = False
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Reads some tokens of each hypothesis.

        Args:
            inputs: (B, K, T, input_size), embeddings.
            state: from `start`, or from the call before.
            memory: from `memory`; all hypotheses of a sentence share it.
            need_weights: also return the weights.

        Returns:
            Features (B, K, T, output_size), the state after, and weights (B, H, K, T, S) or None.
        """

    def recur(
        self, inputs: Tensor, state: DecoderState, memory: Memory, need_weights: bool = False
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Reads one token of each hypothesis.

        Args:
            inputs: (B, K, input_size), embeddings.
            state: from `start`, or from the call before.
            memory: from `memory`; all hypotheses of a sentence share it.
            need_weights: also return the weights.

        Returns:
            Features (B, K, output_size), the state after, and weights (B, H, K, S) or None.
        """
        features, state, weights = self.unroll(inputs.unsqueeze(2), state, memory, need_weights)
        return features.squeeze(2), state, None if weights is None else weights.squeeze(3)

    def forward(
        self, inputs: Tensor, state: DecoderState, memory: Memory, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Reads whole targets (teacher forcing).

        Args:
            inputs: (B, T, input_size), embeddings.
            state: from `start`.
            memory: from `memory`.
            need_weights: also return the weights.

        Returns:
            Features (B, T, output_size), and weights (B, H, T, S) or None.
        """
        features, _, weights = self.unroll(inputs.unsqueeze(1), state, memory, need_weights)
        return features.squeeze(1), None if weights is None else weights.squeeze(2)


DecoderFactory = Callable[[int, int], Decoder]
"""Makes a decoder from (input_size, memory_size): a class, or a ``functools.partial`` of one.

The classes have None, not a partial, as the default of their attention: jsonargparse, which makes factories within
factories, keeps the class of such a default and loses its options.
"""


def stack_weights(weights: list[Tensor | None]) -> Tensor | None:
    """The weights (B, H, K, S) of T steps as (B, H, K, T, S); None where there are none."""
    made = [each for each in weights if each is not None]
    return torch.stack(made, dim=3) if made else None
