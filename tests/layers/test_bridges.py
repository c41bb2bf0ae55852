from functools import partial

import pytest
import torch

from lightning_rnnattn import GRU, LSTM, Elman, LastStateBridge, ProjectionBridge, UserError, ZeroBridge
from lightning_rnnattn.layers import StateShape

B, T, E, N, D = 3, 4, 5, 4, 8
ENCODERS = [
    partial(LSTM, hidden_size=N, bidirectional=True, num_layers=2),
    partial(GRU, hidden_size=D, num_layers=3),
    partial(Elman, hidden_size=N, bidirectional=True),
    partial(LSTM, hidden_size=D, num_layers=2, last_size=N),
    partial(LSTM, hidden_size=D, num_layers=2, last_size=N, bidirectional=True),
]
DECODERS = [partial(LSTM, hidden_size=D, num_layers=2), partial(GRU, hidden_size=D)]


def tensors(state):
    return [state] if isinstance(state, torch.Tensor) else list(state)


def test_shapes_are_what_the_network_says():
    assert StateShape.of(ENCODERS[0](E)) == (2, 2, N, 2)
    assert StateShape.of(ENCODERS[1](E)) == (3, 1, D, 1)
    rnn = partial(LSTM, hidden_size=N, num_layers=3, residual=True, dropout=0.5)(E)
    random_state = torch.get_rng_state()
    assert StateShape.of(rnn) == (3, 1, N, 2)
    assert rnn.training
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("bridge", [ZeroBridge, ProjectionBridge])
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_any_encoder_starts_any_decoder(encoder, decoder, bridge):
    encoder, decoder = encoder(E), decoder(E)
    shapes = StateShape.of(encoder), StateShape.of(decoder)
    _, state = encoder(torch.randn(B, T, E), None, torch.tensor([4, 2, 0]))
    first = bridge(*shapes)(state)
    assert len(tensors(first)) == shapes[1].parts
    decoder(torch.randn(B, T, E), first)


def test_zeros_are_zeros():
    encoder, decoder = StateShape.of(ENCODERS[0](E)), StateShape.of(DECODERS[0](E))
    _, state = ENCODERS[0](E)(torch.randn(B, T, E))
    assert not any(part.any() for part in ZeroBridge(encoder, decoder)(state))


def test_a_projection_for_each_layer_and_part_by_hand():
    encoder, decoder = ENCODERS[0](E), DECODERS[0](E)
    bridge = ProjectionBridge(StateShape.of(encoder), StateShape.of(decoder))
    _, (h, c) = encoder(torch.randn(B, T, E))
    first_h, first_c = bridge((h, c))
    for layer in range(2):
        both = [torch.cat([part[2 * layer], part[2 * layer + 1]], -1) for part in (h, c)]
        torch.testing.assert_close(first_h[layer], torch.tanh(bridge.projections[f"h{layer}"](both[0])))
        torch.testing.assert_close(first_c[layer], bridge.projections[f"c{layer}"](both[1]))


def test_layers_are_counted_from_above():
    shallow = StateShape(1, 1, D, 1)
    deep = StateShape(3, 1, D, 1)
    state = torch.randn(3, B, D)
    assert torch.equal(LastStateBridge(deep, shallow)(state), state[2:])
    given = ProjectionBridge(shallow, deep).layers(state[:1])
    assert all(torch.equal(layer, state[0]) for layer in given)


def test_the_last_state_itself():
    encoder = partial(LSTM, hidden_size=N, bidirectional=True)(E)
    decoder = StateShape(1, 1, D, 2)
    _, (h, c) = encoder(torch.randn(B, T, E))
    first = LastStateBridge(StateShape.of(encoder), decoder)((h, c))
    torch.testing.assert_close(first[0][0], torch.cat([h[0], h[1]], -1))
    torch.testing.assert_close(first[1][0], torch.cat([c[0], c[1]], -1))
    only_h = LastStateBridge(StateShape.of(encoder), decoder._replace(parts=1))((h, c))
    torch.testing.assert_close(only_h, first[0])


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        ((1, 2, N, 1), (1, 1, D + 1, 1), "8 features a layer, the decoder's 9"),
        ((1, 1, D, 1), (1, 1, D, 2), "the encoder has none"),
        ((1, 1, D, 1), (2, 1, D, 1), "the encoder has 1 layers, the decoder 2"),
    ],
)
def test_states_that_do_not_fit_say_so(encoder, decoder, message):
    with pytest.raises(UserError, match=message):
        LastStateBridge(StateShape(*encoder), StateShape(*decoder))
