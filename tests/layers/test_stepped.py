import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_rnnattn import LayerNormLSTM, UserError, ZoneoutLSTM
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


def test_without_zoneout_it_is_torchs_lstm(x):
    rnn = randomised(ZoneoutLSTM(D, N, num_layers=2))
    kernel = nn.LSTM(D, N, num_layers=2, batch_first=True).double()
    with torch.no_grad():
        for layer in range(2):
            getattr(kernel, f"weight_ih_l{layer}").copy_(rnn.input_layers[layer].weight)
            getattr(kernel, f"weight_hh_l{layer}").copy_(rnn.recurrent_layers[layer].weight)
            getattr(kernel, f"bias_ih_l{layer}").copy_(rnn.biases[layer])
            getattr(kernel, f"bias_hh_l{layer}").zero_()
    (output, (h, c)), (expected, (expected_h, expected_c)) = rnn(x), kernel(x)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(h, expected_h)
    torch.testing.assert_close(c, expected_c)
    output.pow(3).sum().backward()
    expected.pow(3).sum().backward()
    for layer in range(2):
        for ours, theirs in ((rnn.input_layers, "ih"), (rnn.recurrent_layers, "hh")):
            torch.testing.assert_close(ours[layer].weight.grad, getattr(kernel, f"weight_{theirs}_l{layer}").grad)


def test_layer_norm_by_hand(x):
    rnn = randomised(LayerNormLSTM(D, N))
    h = c = torch.zeros(B, N, dtype=torch.float64)

    def ln(norm, y):
        return F.layer_norm(y, y.shape[-1:]) * norm.weight + norm.bias

    output, _ = rnn(x)
    outputs = []
    for t in range(T):
        gates = ln(rnn.input_norms[0], x[:, t] @ rnn.input_layers[0].weight.T)
        gates = gates + ln(rnn.recurrent_norms[0], h @ rnn.recurrent_layers[0].weight.T) + rnn.biases[0]
        i, f, g, o = gates.split(N, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(ln(rnn.cell_norms[0], c))
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
def test_dropout_lies_between_layers(cell, x, assert_drops):
    rnn = cell(D, 20, num_layers=2, dropout=0.3).double()
    assert_drops(rnn, lambda: rnn(x), 0.3, before=None, behind=rnn.input_layers[1])


@pytest.mark.parametrize("cell", CELLS)
def test_padded_pieces_equal_one_by_one(cell, x):
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
def test_gradients_reach_every_parameter(cell, x):
    rnn = cell(D, N, num_layers=2, dropout=0.2, zoneout=0.1, cell_zoneout=0.1).double()
    rnn(x)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in rnn.parameters())


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
