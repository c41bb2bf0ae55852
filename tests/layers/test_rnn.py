import warnings
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_rnnattn import GRU, LSTM, RNN, Elman, LayerNormLSTM, MinGRU, MinLSTM, UserError, ZoneoutLSTM
from lightning_rnnattn.layers import map_state
from lightning_rnnattn.layers.steps import stack, unstack

KERNELS = [LSTM, GRU, Elman, partial(Elman, relu=True)]
PEERS = [nn.LSTM, nn.GRU, nn.RNN, partial(nn.RNN, nonlinearity="relu")]
CELLS = [*KERNELS, MinGRU, MinLSTM, ZoneoutLSTM, LayerNormLSTM]
B, T, D, N = 3, 6, 4, 5
OPTIONS = [
    {},
    {"residual": True},
    {"layer_norm": True},
    {"residual": True, "layer_norm": True},
    {"last_size": 3},
    {"last_size": 7, "residual": True},
]


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
        start = map_state(lambda s: torch.rand_like(s) * (s != 0), rnn(x)[1])  # some layers use a part only
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


@pytest.mark.parametrize("cell", KERNELS)
def test_a_batch_of_whole_sequences_is_not_packed(cell, monkeypatch):
    monkeypatch.delattr("lightning_rnnattn.layers.packed.pack_padded_sequence")
    rnn, x = cell(D, N, num_layers=2, bidirectional=True), torch.randn(B, T, D)
    with_lengths, without = rnn(x, None, torch.full((B,), T)), rnn(x)
    assert torch.equal(with_lengths[0], without[0])
    assert states_equal(with_lengths[1], without[1])


@pytest.mark.parametrize("cell", [Elman, GRU, LSTM])
def test_residual_of_a_single_layer(cell):
    rnn, x = cell(N, N, residual=True), torch.randn(B, T, N)
    plain = cell(N, N)
    plain.load_state_dict(rnn.state_dict())
    torch.testing.assert_close(rnn(x)[0], plain(x)[0] + x)
    lengths = torch.full((B,), T - 1)
    assert not rnn(x, None, lengths)[0][:, T - 1 :].any()


def test_layer_norm_lies_between_layers():
    rnn = Elman(D, N, num_layers=2, layer_norm=True)
    x = torch.randn(B, T, D)
    with torch.no_grad():
        rnn.norms[0].weight.fill_(3.0)
    first, _ = rnn.kernels[0](x)
    second, _ = rnn.kernels[1](nn.functional.layer_norm(first, (N,)) * 3)
    torch.testing.assert_close(rnn(x)[0], second)


@pytest.mark.parametrize(("cell", "peer"), list(zip(KERNELS, PEERS, strict=True)))
def test_dropout_within_a_kernel_is_torchs_own(cell, peer):
    rnn, kernel = cell(D, N, num_layers=2, dropout=0.3), peer(D, N, num_layers=2, dropout=0.3, batch_first=True)
    kernel.load_state_dict(rnn.kernels[0].state_dict())
    x = torch.randn(B, T, D)
    torch.manual_seed(3)
    output, _ = rnn(x)
    torch.manual_seed(3)
    assert torch.equal(output, kernel(x)[0])
    assert not torch.equal(output, rnn(x)[0])
    assert torch.equal(rnn.eval()(x)[0], kernel.eval()(x)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_lies_between_kernels(cell, assert_drops):
    rnn, x = cell(D, 20, num_layers=2, layer_norm=True, dropout=0.3), torch.randn(B, T, D)
    kernel = rnn.kernels[1]
    behind = kernel[0] if isinstance(kernel, nn.ModuleList) else kernel
    assert_drops(rnn, lambda: rnn(x), 0.3, before=rnn.norms[0], behind=behind)


def test_layers_of_different_sizes_are_kernels_of_their_own():
    rnn = LSTM(D, N, num_layers=3, last_size=2)
    assert [(kernel.input_size, kernel.hidden_size) for kernel in rnn.kernels] == [(D, N), (N, N), (N, 2)]
    x = torch.randn(B, T, D)
    output, (h, c) = rnn(x)
    first, (h1, _) = rnn.kernels[0](x)
    second, _ = rnn.kernels[1](first)
    third, (_, c3) = rnn.kernels[2](second)
    assert torch.equal(output, third)
    assert torch.equal(h[0], h1[0])
    assert torch.equal(c[2, :, :2], c3[0])
    assert not h[2, :, 2:].any()
    assert LSTM(D, N, last_size=2).output_size == 2


def test_locked_dropout_lies_between_layers_and_is_the_same_at_every_step():
    rnn = Elman(D, N, num_layers=2, locked_dropout=0.5)
    seen = []
    rnn.kernels[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(B, T, D)
    output, _ = rnn(x)
    first, _ = rnn.kernels[0](x)
    kept = seen[0] != 0
    assert 0 < kept.float().mean() < 1
    assert (kept == kept[:, :1]).all()
    torch.testing.assert_close(seen[0], first * 2 * kept)
    assert torch.equal(rnn.eval()(x)[0], rnn.kernels[1](first)[0])
    assert not torch.equal(output, rnn(x)[0])


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"num_layers": 2, "bidirectional": True, "last_size": 3}])
@pytest.mark.parametrize("cell", KERNELS)
def test_recurrent_weights_differ_between_calls_in_training_and_only_there(cell, options):
    rnn = cell(D, N, weight_dropout=0.5, **options)
    x = torch.randn(B, T, D)
    for lengths in (None, torch.tensor([T, 4, 0])):
        first, second = rnn(x, None, lengths)[0], rnn(x, None, lengths)[0]
        assert not torch.equal(first, second)
        rnn.eval()
        plain = cell(D, N, **options).eval()
        plain.load_state_dict(rnn.state_dict())  # which has the keys of a network without weight drop
        assert torch.equal(rnn(x, None, lengths)[0], rnn(x, None, lengths)[0])
        assert torch.equal(rnn(x, None, lengths)[0], plain(x, None, lengths)[0])
        rnn.train()


def test_the_first_step_does_not_see_weight_drop():
    rnn = LSTM(D, N, weight_dropout=0.5)
    x = torch.randn(B, T, D)
    first, second = rnn(x)[0], rnn(x)[0]
    assert torch.equal(first[:, 0], second[:, 0])
    assert not torch.equal(first[:, 1:], second[:, 1:])


def test_weight_drop_is_dropout_of_the_recurrent_matrix():
    rnn = Elman(D, N, weight_dropout=0.25).double()
    x = torch.randn(B, T, D, dtype=torch.float64)
    torch.manual_seed(3)
    output, _ = rnn(x)
    torch.manual_seed(3)
    kernel = rnn.kernels[0]
    dropped = nn.functional.dropout(kernel.weight_hh_l0, 0.25)
    h = torch.zeros(B, N, dtype=torch.float64)
    for t in range(T):
        h = torch.tanh(x[:, t] @ kernel.weight_ih_l0.T + kernel.bias_ih_l0 + h @ dropped.T + kernel.bias_hh_l0)
        torch.testing.assert_close(output[:, t], h)
    output.sum().backward()
    gradient = kernel.weight_hh_l0.grad
    assert ((gradient == 0) == (dropped == 0)).all()  # what was dropped learns nothing
    assert kernel.weight_ih_l0.grad.all()


def test_weight_drop_trains_under_autocast_and_leaves_the_parameters_alone():
    rnn = GRU(D, N, num_layers=2, weight_dropout=0.5)
    before = {name: p.detach().clone() for name, p in rnn.named_parameters()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = rnn(torch.randn(B, T, D))
    output.sum().backward()
    assert all(torch.equal(before[name], p) for name, p in rnn.named_parameters())
    assert all(p.grad is not None for p in rnn.parameters())


def run_steps(rnn, x, known_size):
    """The outputs and the state of a network that is told the last features of its inputs step by step."""
    steps, (_, state) = rnn.steps(x[..., :known_size]), rnn(x[:, :1])
    layers, outputs = unstack(map_state(torch.zeros_like, state)), []
    for t in range(x.shape[1]):
        output, layers = steps(t, x[:, t, known_size:], layers)
        outputs.append(output)
    return torch.stack(outputs, dim=1), stack(layers)


@pytest.mark.parametrize("options", [*OPTIONS, {"dropout": 0.5}, {"weight_dropout": 0.5}, {"locked_dropout": 0.5}])
@pytest.mark.parametrize("cell", KERNELS)
def test_step_by_step_equals_all_at_once(cell, options):
    rnn = cell(N, N, num_layers=2, **options).double().eval()
    x = torch.randn(B, T, N, dtype=torch.float64)
    output, state = rnn(x)
    stepped, last = run_steps(rnn, x, 3)
    torch.testing.assert_close(stepped, output)
    map_state(torch.testing.assert_close, last, state)


@pytest.mark.parametrize("grad", [True, False])
def test_under_autocast_steps_cast_a_weight_once(grad):
    rnn, casts = LSTM(5, hidden_size=4), []

    class Casts(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten._to_copy.default and sorted(args[0].shape) == [6, 16]:
                casts.append(args[0].shape)
            return function(*args, **(kwargs or {}))

    x = torch.randn(3, 7, 5)
    with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
        steps, layers = rnn.steps(x[..., :3]), unstack((torch.zeros(1, 3, 4), torch.zeros(1, 3, 4)))
        with Casts():
            outputs = []
            for t in range(7):
                output, layers = steps(t, x[:, t, 3:], layers)
                outputs.append(output)
        expected, _ = rnn(x)
    assert not casts  # they were cast when the steps were made
    torch.testing.assert_close(torch.stack(outputs, 1).float(), expected.float(), atol=0.03, rtol=0.03)


def test_steps_in_double_precision_stay_so_under_autocast():
    rnn, x = GRU(5, hidden_size=4).double(), torch.randn(3, 7, 5, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        stepped, _ = run_steps(rnn, x, 3)
    torch.testing.assert_close(stepped, run_steps(rnn, x, 3)[0])


def test_steps_drop_the_same_weights_and_features_all_along():
    rnn = Elman(D, N, num_layers=2, weight_dropout=0.4, locked_dropout=0.3, dropout=0.2).double()
    x = torch.randn(B, T, D, dtype=torch.float64)
    torch.manual_seed(5)
    stepped, _ = run_steps(rnn, x, 3)
    torch.manual_seed(5)
    dropped = [nn.functional.dropout(kernel.weight_hh_l0, 0.4) for kernel in rnn.kernels]
    mask = nn.functional.dropout(torch.ones(B, 1, N, dtype=torch.float64), 0.3)
    rnn(x[:, :1])  # as `run_steps` does for a state
    masks = [mask[:, 0] * nn.functional.dropout(torch.ones(B, N, dtype=torch.float64), 0.2) for _ in range(T)]
    assert any((weight == 0).any() for weight in dropped)
    assert (mask == 0).any()
    hidden, _ = functional_call(rnn.kernels[0], {"weight_hh_l0": dropped[0]}, (x,))
    read = hidden * torch.stack(masks, dim=1)
    expected, _ = functional_call(rnn.kernels[1], {"weight_hh_l0": dropped[1]}, (read,))
    torch.testing.assert_close(stepped, expected)


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
    [
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"last_size": 0}, "last_size=0"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"locked_dropout": 1.5}, "locked_dropout=1.5"),
        ({"weight_dropout": -0.5}, "weight_dropout=-0.5"),
    ],
)
def test_settings_out_of_range_say_so(options, message):
    with pytest.raises(UserError, match=message):
        LSTM(D, **options)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", [LSTM, GRU, Elman, MinGRU, MinLSTM, ZoneoutLSTM, LayerNormLSTM])
def test_padding_that_is_no_number_has_no_say(cell, bidirectional):
    rnn, x, lengths = cell(3, hidden_size=4, bidirectional=bidirectional), torch.randn(3, 6, 3), torch.tensor([6, 2, 0])
    found = []
    for padding in (0.0, torch.nan):
        padded = x.masked_fill(torch.arange(6)[:, None] >= lengths[:, None, None], padding)
        output, state = rnn(padded, None, lengths)
        parts = [output]
        map_state(lambda s, parts=parts: parts.append(s) or s, state)
        found.append([*parts, *torch.autograd.grad(sum(part.square().sum() for part in parts), rnn.parameters())])
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("cell", [LSTM, GRU, Elman, MinGRU, ZoneoutLSTM])
def test_a_batch_of_nothing(cell):
    output, state = cell(3, hidden_size=4)(torch.randn(0, 5, 3), None, torch.zeros(0, dtype=torch.int64))
    assert output.shape == (0, 5, 4)
    map_state(lambda s: torch.testing.assert_close(s, torch.zeros(1, 0, 4)) or s, state)


@pytest.mark.parametrize("cell", [LSTM, GRU, MinGRU, ZoneoutLSTM])
def test_lengths_and_states_of_another_batch_are_told(cell):
    rnn, x = cell(3, hidden_size=4, num_layers=2, residual=True), torch.randn(3, 5, 3)
    for wrong in (torch.tensor([5]), torch.tensor([2.7, 5.0, 1.0]), [5, 2, 1]):
        with pytest.raises(ValueError, match="must be a tensor of 3 integers"):
            rnn(x, None, wrong)
    for wrong in ([-1, 5, 1], [5, 6, 1]):
        with pytest.raises(ValueError, match="must lie between 0 and the 5 steps"):
            rnn(x, None, torch.tensor(wrong))
    _, state = rnn(x)
    for wrong in (map_state(lambda s: torch.cat([s, s]), state), map_state(lambda s: s[:, :2], state)):
        with pytest.raises(ValueError, match=r"this network's for such a batch is \(2, 3, 4\)"):
            rnn(x, wrong)


@pytest.mark.parametrize("made", ["parametrization", "hook", "pruned"])
@pytest.mark.parametrize("cell", [LSTM, GRU, Elman])
class TestWeightsThatAreMadeOfOthers:
    @staticmethod
    def build(cell, made, **options):
        rnn = cell(3, hidden_size=4, **options)
        if made == "pruned":
            prune.l1_unstructured(rnn.kernels[0], "weight_hh_l0", 0.5)
        else:
            normalize = parametrizations.weight_norm if made == "parametrization" else torch.nn.utils.weight_norm
            normalize(rnn.kernels[0], "weight_hh_l0")
        return rnn

    @pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
    def test_trains_at_once_and_step_by_step(self, cell, made):
        rnn, x = self.build(cell, made), torch.randn(2, 5, 3)
        plain = cell(3, hidden_size=4)
        for _ in range(2):
            output, _ = rnn(x, None, torch.tensor([5, 3]))
            grads = torch.autograd.grad(output.square().sum(), rnn.parameters())
            assert all(grad.abs().sum() > 0 for grad in grads)
            own = {name: getattr(rnn.kernels[0], name).detach() for name, _ in plain.kernels[0].named_parameters()}
            plain.kernels[0].load_state_dict(own)
            torch.testing.assert_close(output, plain(x, None, torch.tensor([5, 3]))[0])
            stepped, _ = run_steps(rnn, x, 1)
            torch.testing.assert_close(stepped, plain(x)[0])
            torch.autograd.grad(stepped.square().sum(), rnn.parameters())

    @pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
    def test_are_not_dropped(self, cell, made):
        rnn = self.build(cell, made, weight_dropout=0.5)
        with pytest.raises(UserError, match="weight_dropout: weight_hh_l0 is made of others"):
            rnn(torch.randn(2, 5, 3))


def test_the_family_has_one_base():
    assert all(isinstance(cell(D, N), RNN) for cell in CELLS)
