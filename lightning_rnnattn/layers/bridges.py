"""From an encoder's last state to a decoder's first.

Letters: B batch, L layers, D features.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers.rnn import RNN, State

_NAMES = "hc"  # the parts of a state


class StateShape(NamedTuple):
    """What the state of a recurrent network looks like.

    Attributes:
        layers: L.
        directions: 2 for a bidirectional network, else 1.
        size: features of a layer in one direction.
        parts: 2 where the state is a pair (h, c), else 1.
    """

    layers: int
    directions: int
    size: int
    parts: int

    @classmethod
    @torch.no_grad()
    def of(cls, rnn: RNN) -> "StateShape":
        """Asks the network, by letting it read one step of zeros."""
        was_training = rnn.training
        parameter = next(rnn.parameters())
        _, state = rnn.eval()(parameter.new_zeros(1, 1, rnn.input_size))
        rnn.train(was_training)
        parts = _parts(state)
        rows, _, size = parts[0].shape
        return cls(rows // rnn.directions, rnn.directions, size, len(parts))


class Bridge(nn.Module, ABC):
    """Makes the first state of a decoder.

    Args:
        encoder_shape: the state that there is.
        decoder_shape: the state that is wanted.
    """

    def __init__(self, encoder_shape: StateShape, decoder_shape: StateShape) -> None:
        super().__init__()
        self.encoder_shape = encoder_shape
        self.decoder_shape = decoder_shape

    @abstractmethod
    def forward(self, state: State) -> State:
        """The encoder's state after each sequence's last step, in torch's layout, to the decoder's, (L, B, D)."""

    def layers(self, part: Tensor) -> list[Tensor]:
        """For each layer of the decoder what belongs to it, (B, directions · size), of a part of the encoder's state.

        That is the layer as far below the uppermost one; the lowest, where the encoder has fewer. Both directions of a
        layer stand side by side.
        """
        joined = part.unflatten(0, (-1, self.encoder_shape.directions)).transpose(1, 2).flatten(2)
        above = self.encoder_shape.layers - self.decoder_shape.layers
        return [joined[max(0, layer + above)] for layer in range(self.decoder_shape.layers)]


class ZeroBridge(Bridge):
    """Begins with zeros: what the decoder knows of the source it knows by attention."""

    def forward(self, state: State) -> State:
        """See `Bridge.forward`."""
        h = _parts(state)[0]
        zeros = h.new_zeros(self.decoder_shape.layers, h.shape[1], self.decoder_shape.size)
        return _state([zeros] * self.decoder_shape.parts)


class ProjectionBridge(Bridge):
    r"""A learnt layer for each layer of the decoder, and for h and c apart (after Bahdanau et al. 2015, A.2.2).

    .. math:: h_0 = \tanh(W_h \hat h + b_h), \qquad c_0 = W_c \hat c + b_c

    with :math:`\hat h, \hat c` the encoder's last states of the same layer, counted from above, in both directions. An
    encoder without c gives its h for it.
    """

    def __init__(self, encoder_shape: StateShape, decoder_shape: StateShape) -> None:
        super().__init__(encoder_shape, decoder_shape)
        size = encoder_shape.directions * encoder_shape.size
        names = [f"{part}{layer}" for part in _NAMES[: decoder_shape.parts] for layer in range(decoder_shape.layers)]
        self.projections = nn.ModuleDict({name: nn.Linear(size, decoder_shape.size) for name in names})

    def forward(self, state: State) -> State:
        """See `Bridge.forward`."""
        parts = _parts(state)
        made = []
        for number in range(self.decoder_shape.parts):
            layers = self.layers(parts[min(number, len(parts) - 1)])
            made.append(torch.stack([self.projections[f"{_NAMES[number]}{i}"](x) for i, x in enumerate(layers)]))
        return _state([made[0].tanh(), *made[1:]])


class LastStateBridge(Bridge):
    """The encoder's last state itself, both directions of a layer side by side (Sutskever et al. 2014; Luong et al.).

    Raises:
        UserError: if the encoder's state has another size, no c where the decoder needs one, or fewer layers.
    """

    def __init__(self, encoder_shape: StateShape, decoder_shape: StateShape) -> None:
        super().__init__(encoder_shape, decoder_shape)
        size = encoder_shape.directions * encoder_shape.size
        reason = None
        if size != decoder_shape.size:
            reason = f"the encoder's last state has {size} features a layer, the decoder's {decoder_shape.size}"
        elif encoder_shape.parts < decoder_shape.parts:
            reason = "the decoder needs a cell c, and the encoder has none"
        elif encoder_shape.layers < decoder_shape.layers:
            reason = f"the encoder has {encoder_shape.layers} layers, the decoder {decoder_shape.layers}"
        if reason is not None:
            raise UserError(f"bridge: {reason}: use ProjectionBridge, or sizes that agree")

    def forward(self, state: State) -> State:
        """See `Bridge.forward`."""
        return _state([torch.stack(self.layers(part)) for part in _parts(state)[: self.decoder_shape.parts]])


BridgeFactory = Callable[[StateShape, StateShape], Bridge]
"""Makes a bridge from the shapes of (the encoder's state, the decoder's state): a class, or a ``functools.partial``."""


def _parts(state: State) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else state


def _state(parts: list[Tensor]) -> State:
    return parts[0] if len(parts) == 1 else (parts[0], parts[1])
