from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from lightning_rnnattn import LSTM, LayerNormLSTM, UserError, ZoneoutLSTM
from lightning_rnnattn.layers import map_state

CELLS = [ZoneoutLSTM, LayerNormLSTM]
B, T, D, N = 3, 6, 4, 5


@pytest.fixture
def x():
    return torch.randn(B, T, D, dtype=torch.float64)


def randomised(rnn):
    for parameter in rnn.parameters():
        nn.init.normal_(parameter, std=0.5)
    return rnn.double()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, torch.tensor([T, 2, 3])])
def test_without_zoneout_it_is_torchs_lstm(x, bidirectional, lengths):
    rnn = randomised(ZoneoutLSTM(D, N, num_layers=2, bidirectional=bidirectional))
    same = LSTM(D, N, num_layers=2, bidirectional=bidirectional).double()
    [kernel] = same.kernels
    ours, theirs = [], []
    for layer, directions in enumerate(rnn.kernels):
        for direction, suffix in zip(directions, ("", "_reverse"), strict=False):
            ours += [direction.input.weight, direction.recurrent.weight, direction.bias]
            theirs += [getattr(kernel, f"{name}_l{layer}{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih")]
            nn.init.zeros_(getattr(kernel, f"bias_hh_l{layer}{suffix}"))
    with torch.no_grad():
        for own, other in zip(ours, theirs, strict=True):
            other.copy_(own)
    before = map_state(torch.rand_like, rnn(x)[1])
    found, expected = (network(x, before, lengths) for network in (rnn, same))
    torch.testing.assert_close(found, expected)
    found, expected = (
        torch.autograd.grad(output.pow(3).sum() + state[1].pow(3).sum(), parameters)
        for (output, state), parameters in ((found, ours), (expected, theirs))
    )
    torch.testing.assert_close(found, expected)


def test_layer_norm_by_hand(x):
    rnn = randomised(LayerNormLSTM(D, N))
    [[direction]] = rnn.kernels
    h = c = torch.zeros(B, N, dtype=torch.float64)

    def ln(norm, y):
        return F.layer_norm(y, y.shape[-1:]) * norm.weight + norm.bias

    output, _ = rnn(x)
    outputs = []
    for t in range(T):
        gates = ln(direction.input_norm, x[:, t] @ direction.input.weight.T)
        gates = gates + ln(direction.recurrent_norm, h @ direction.recurrent.weight.T) + direction.bias
        i, f, g, o = gates.split(N, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(ln(direction.cell_norm, c))
        outputs.append(h)
    by_hand = torch.stack(outputs, dim=1)
    torch.testing.assert_close(output, by_hand)
    found, wanted = (torch.autograd.grad(y.pow(3).sum(), list(rnn.parameters())) for y in (output, by_hand))
    torch.testing.assert_close(found, wanted)


def test_zoneout_keeps_units_of_the_step_before_in_training(x):
    rnn = ZoneoutLSTM(D, 200, zoneout=0.3).double()
    output, _ = rnn(x)
    kept = output[:, 1:] == output[:, :-1]
    assert abs(kept.double().mean() - 0.3) < 0.05
    assert not torch.equal(rnn(x)[0], output)
    rnn.eval()
    assert torch.equal(rnn(x)[0], rnn(x)[0])
    assert not (rnn(x)[0][:, 1:] == rnn(x)[0][:, :-1]).any()


def test_cell_zoneout_keeps_cells(x):
    rnn = ZoneoutLSTM(D, 200, cell_zoneout=0.3).double()
    _, (_, before) = rnn(x[:, :-1])
    torch.manual_seed(1)
    _, (_, after) = rnn(x[:, -1:], (before, before))
    assert abs((after == before).double().mean() - 0.3) < 0.05


def test_in_evaluation_the_state_is_the_expected_one(x):
    rnn = randomised(ZoneoutLSTM(D, N, zoneout=0.25, cell_zoneout=0.5)).eval()
    h = c = torch.randn(1, B, N, dtype=torch.float64)
    plain = randomised(ZoneoutLSTM(D, N))
    plain.load_state_dict(rnn.state_dict())
    _, (new_h, new_c) = plain(x[:, :1], (h, c))
    _, (mixed_h, mixed_c) = rnn(x[:, :1], (h, c))
    torch.testing.assert_close(mixed_h, 0.25 * h + 0.75 * new_h)
    torch.testing.assert_close(mixed_c, 0.5 * c + 0.5 * new_c)


@pytest.mark.parametrize("cell", CELLS)
def test_padded_pieces_equal_one_by_one_with_zoneout(cell, x):
    rnn = randomised(cell(D, N, num_layers=2, zoneout=0.2, cell_zoneout=0.1)).eval()
    lengths = torch.tensor([T, 2, 0])
    start = map_state(lambda s: torch.rand_like(s), rnn(x)[1])
    output, state = rnn(x, start, lengths)
    for b, length in enumerate(lengths.tolist()):
        after, pieces = map_state(lambda s, b=b: s[:, b : b + 1], start), []
        for t in range(length):
            y, after = rnn(x[b : b + 1, t : t + 1], after)
            pieces.append(y)
        torch.testing.assert_close(output[b, :length], torch.cat([*pieces, x.new_zeros(1, 0, N)], dim=1)[0])
        assert not output[b, length:].any()
        map_state(lambda got, own, b=b: torch.testing.assert_close(got[:, b : b + 1], own) or got, state, after)


@pytest.mark.parametrize("cell", CELLS)
def test_under_autocast(cell, x):
    rnn, x = cell(D, N), x.float()
    exact = torch.autograd.grad(rnn(x)[0].sum(), list(rnn.parameters()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = torch.autograd.grad(rnn(x)[0].sum(), list(rnn.parameters()))
    assert all(grad.dtype == torch.float32 for grad in rough)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("options", [{"hidden_size": 0}, {"zoneout": 1.0}, {"cell_zoneout": -0.1}, {"num_layers": 0}])
def test_settings_out_of_range_say_so(options):
    [name] = options
    with pytest.raises(UserError, match=f"{name}={options[name]}"):
        ZoneoutLSTM(D, **options)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_what_reads_half_precision_under_autocast(cell, bidirectional):
    rnn = cell(D, N, bidirectional=bidirectional, zoneout=0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, (h, c) = rnn(torch.randn(B, T, D, dtype=torch.bfloat16))
    assert output.dtype is h.dtype is c.dtype is torch.float32
    assert cell(D, N).bfloat16()(torch.randn(B, T, D, dtype=torch.bfloat16))[0].dtype is torch.bfloat16


@pytest.mark.parametrize("cell", [partial(ZoneoutLSTM, cell_zoneout=0.1), LayerNormLSTM])
def test_second_derivatives(cell, x):
    rnn = cell(D, N).double().eval()
    x.requires_grad_()

    def penalty(weight):
        output, _ = functional_call(rnn, {"kernels.0.0.recurrent.weight": weight}, (x,))
        (grad,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        return grad.square().sum()

    assert torch.autograd.gradcheck(penalty, rnn.kernels[0][0].recurrent.weight)
