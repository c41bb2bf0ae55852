import warnings
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rnnattn import GRU, LSTM, RNN, Elman, MinGRU, MinLSTM, UserError
from lightning_rnnattn.layers import map_state

KERNELS = [LSTM, GRU, Elman, partial(Elman, relu=True)]
CELLS = [*KERNELS, MinGRU, MinLSTM]
B, T, D, N = 3, 6, 4, 5
OPTIONS = [{}, {"residual": True}, {"layer_norm": True}, {"residual": True, "layer_norm": True}]


def states_equal(a, b):
    flags = []
    map_state(lambda x, y: flags.append(torch.allclose(x, y, atol=1e-10)) or x, a, b)
    return all(flags)


@pytest.mark.parametrize("cell", KERNELS)
def test_plain_stacks_are_torchs_own(cell):
    rnn = cell(D, N, num_layers=2, bidirectional=True)
    x = torch.randn(B, T, D)
    output, state = rnn(x)
    expected_output, expected_state = rnn.kernels[0](x)
    assert len(rnn.kernels) == 1
    assert torch.equal(output, expected_output)
    assert states_equal(state, expected_state)
    assert rnn.output_size == output.shape[-1] == 2 * N


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_pieces_equal_the_whole(cell, options):
    rnn = cell(N, N, num_layers=2, **options).double()
    x = torch.randn(B, T, N, dtype=torch.float64)
    whole, last = rnn(x)
    state, pieces = None, []
    for piece in x.split([1, 3, 2], dim=1):
        output, state = rnn(piece, state)
        pieces.append(output)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    assert states_equal(state, last)


@settings(max_examples=30, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    options=st.sampled_from(OPTIONS),
    bidirectional=st.booleans(),
    lengths=st.lists(st.integers(0, T), min_size=1, max_size=4),
    with_state=st.booleans(),
    seed=st.integers(0, 100),
)
def test_padded_equals_one_by_one(cell, options, bidirectional, lengths, with_state, seed):
    torch.manual_seed(seed)
    rnn = cell(N, N, num_layers=2, bidirectional=bidirectional, **options).double()
    x = torch.randn(len(lengths), T, N, dtype=torch.float64)
    start = None
    if with_state:
        start = map_state(torch.rand_like, rnn(x)[1])
    output, state = rnn(x, start, torch.tensor(lengths))
    assert output.shape == (len(lengths), T, rnn.output_size)
    for b, length in enumerate(lengths):
        own = None if start is None else map_state(lambda s, b=b: s[:, b : b + 1].contiguous(), start)
        got = map_state(lambda s, b=b: s[:, b : b + 1], state)
        if length == 0:
            assert states_equal(got, map_state(torch.zeros_like, got) if own is None else own)
        else:
            alone, after = rnn(x[b : b + 1, :length], own)
            torch.testing.assert_close(output[b, :length], alone[0])
            assert states_equal(got, after)
        assert not output[b, length:].any()


def test_residual_adds_the_layers_input_where_sizes_agree():
    rnn = Elman(D, N, num_layers=2, residual=True)
    x = torch.randn(B, T, D)
    first, _ = rnn.kernels[0](x)
    second, _ = rnn.kernels[1](first)
    torch.testing.assert_close(rnn(x)[0], first + second)  # D != N: the first layer has no residual


def test_layer_norm_and_dropout_lie_between_layers():
    rnn = Elman(D, N, num_layers=2, layer_norm=True, dropout=0.5)
    x = torch.randn(B, T, D)
    with torch.no_grad():
        rnn.norms[0].weight.fill_(3.0)
    first, _ = rnn.kernels[0](x)
    second, _ = rnn.kernels[1](torch.nn.functional.layer_norm(first, (N,)) * 3)
    torch.testing.assert_close(rnn.eval()(x)[0], second)
    assert not torch.allclose(rnn.train()(x)[0], second)


def test_a_single_layer_with_dropout_warns_nobody():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LSTM(D, N, dropout=0.5)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_reach_every_parameter_and_the_state(cell):
    rnn = cell(D, N, num_layers=2, layer_norm=True).double()
    x = torch.randn(B, T, D, dtype=torch.float64, requires_grad=True)
    start = map_state(lambda s: torch.rand_like(s).requires_grad_(), rnn(x)[1])
    output, _ = rnn(x, start, torch.tensor([T, 2, 0]))
    output.sum().backward()
    assert all(p.grad is not None for p in rnn.parameters())
    assert not x.grad[1, 2:].any()
    assert not x.grad[2].any()
    map_state(lambda s: s.grad.isfinite().all() or pytest.fail("no gradient"), start)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"hidden_size": 0}, "hidden_size=0"), ({"num_layers": 0}, "num_layers=0"), ({"dropout": 1.5}, "dropout=1.5")],
)
def test_settings_out_of_range_say_so(options, message):
    with pytest.raises(UserError, match=message):
        LSTM(D, **options)


def test_the_family_has_one_base():
    assert all(isinstance(cell(D, N), RNN) for cell in CELLS)
