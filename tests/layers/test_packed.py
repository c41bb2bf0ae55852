from copy import deepcopy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

from lightning_rnnattn import GRU, LSTM, Elman
from lightning_rnnattn.layers import kernels, map_state, packed
from lightning_rnnattn.ops.lstm import native, serves

CELLS = [LSTM, GRU, Elman, partial(Elman, relu=True)]
D, N = 3, 4


def results(rnn, x, state, lengths):
    """Outputs, states, and the gradients of all that there is."""
    x = x.clone().requires_grad_()
    output, after = rnn(x, state, lengths)
    parts = [output]
    map_state(lambda s: parts.append(s) or s, after)
    inputs = [x, *rnn.parameters()]
    if state is not None:
        map_state(lambda s: inputs.append(s) or s, state)
    weight = torch.linspace(-1, 2, output.numel(), dtype=x.dtype).view_as(output)  # all gradients differ
    total = (output * weight).sum() + sum((part**2).sum() for part in parts[1:])
    return [*parts, *torch.autograd.grad(total, inputs)]


def at_a_cost(length_cost, monkeypatch, *arguments):
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "runs_lstm", lambda *_: False)
        patch.setattr(packed, "LENGTH_COST", length_cost)
        return results(*arguments)


by_length, by_packing = partial(at_a_cost, 0), partial(at_a_cost, 1 << 30)


@settings(max_examples=60, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    with_state=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 100),
)
def test_running_by_length_gives_what_packing_gives(cell, num_layers, bidirectional, lengths, with_state, dtype, seed):
    torch.manual_seed(seed)
    rnn = cell(D, N, num_layers=num_layers, bidirectional=bidirectional).to(dtype)
    x = torch.randn(len(lengths), 9, D, dtype=dtype)
    state = None
    if with_state:
        state = map_state(lambda s: torch.randn_like(s).requires_grad_(), rnn(x)[1])
    arguments = pytest.MonkeyPatch(), rnn, x, state, torch.tensor(lengths)
    whole, found_by_length = by_packing(*arguments), by_length(*arguments)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-11}
    for found, wanted in zip(found_by_length, whole, strict=True):
        torch.testing.assert_close(found, wanted, **tolerance)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_has_no_say(cell, bidirectional, monkeypatch):
    rnn, lengths = cell(D, N, num_layers=2, bidirectional=bidirectional), torch.tensor([9, 4, 0, 1])
    x = torch.randn(4, 9, D)
    garbage = x.clone()
    for row, length in zip(garbage, lengths, strict=True):
        row[length:] = torch.nan
    for way in (results, partial(by_length, monkeypatch), partial(by_packing, monkeypatch)):
        clean = way(rnn, x, None, lengths)
        for found, wanted in zip(way(rnn, garbage, None, lengths), clean, strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_same_weights_are_dropped_throughout(bidirectional, monkeypatch):
    rnn = GRU(D, N, num_layers=2, weight_dropout=0.5, bidirectional=bidirectional).double()
    arguments = rnn, torch.randn(2, 9, D, dtype=torch.float64), None, torch.tensor([9, 5])
    torch.manual_seed(1)
    whole = results(*arguments)
    torch.manual_seed(1)
    for found, wanted in zip(by_length(monkeypatch, *arguments), whole, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("training", [True, False])
def test_features_are_dropped_between_layers(training, monkeypatch):
    monkeypatch.setattr(packed, "LENGTH_COST", 0)
    rnn = Elman(50, 50, relu=True, num_layers=2, dropout=0.25).train(training)
    for name, parameter in rnn.named_parameters():  # both layers give what they read
        torch.nn.init.eye_(parameter) if "weight_ih" in name else torch.nn.init.zeros_(parameter)
    output, _ = rnn(torch.ones(2, 9, 50), None, torch.tensor([9, 5]))
    real = torch.cat([output[0], output[1, :5]])
    kept = real != 0
    assert kept.double().mean() == pytest.approx(0.75 if training else 1.0, abs=0.06)
    torch.testing.assert_close(real, kept / (0.75 if training else 1.0))


@pytest.mark.parametrize("cell", CELLS)
def test_running_by_length_under_autocast(cell, monkeypatch):
    rnn, x, lengths = cell(D, N, num_layers=2, bidirectional=True), torch.randn(3, 9, D), torch.tensor([9, 4, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = by_packing(monkeypatch, rnn, x, None, lengths)
        found_by_length = by_length(monkeypatch, rnn, x, None, lengths)
        unpacked = results(rnn, x, None, None)
    for found, wanted, like in zip(found_by_length, whole, unpacked, strict=True):
        assert found.dtype == like.dtype
        torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05, check_dtype=False)


def test_what_is_packed(monkeypatch):
    seen = []
    pack = packed.pack_padded_sequence
    monkeypatch.setattr(packed, "pack_padded_sequence", lambda x, *a, **k: seen.append(x.shape[1]) or pack(x, *a, **k))
    rnn, x, lengths = GRU(D, N), torch.randn(2, 70, D), torch.tensor([70, 41])
    rnn(x, None, lengths)
    assert not seen
    with torch.no_grad():  # nothing to be gained
        rnn(x, None, lengths)
    rnn(x[:, :5], None, torch.tensor([5, 4]))  # short ones
    GRU(D, 700)(x, None, lengths)  # weights that would be read anew for each length
    rnn(x, None, torch.tensor([0, 0]))
    assert seen == [70, 5, 70, 70]


@pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
class TestCompiledLSTM:
    """`run_lstm` against torch's kernel over packed sequences."""

    @settings(max_examples=60, deadline=None)
    @given(
        size=st.sampled_from([1, 4, 16, 21, 40]),
        num_layers=st.integers(1, 3),
        bidirectional=st.booleans(),
        lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5),
        with_state=st.booleans(),
        seed=st.integers(0, 100),
    )
    def test_gives_what_packing_gives(self, size, num_layers, bidirectional, lengths, with_state, seed):
        torch.manual_seed(seed)
        rnn = LSTM(D, size, num_layers=num_layers, bidirectional=bidirectional)
        x = torch.randn(len(lengths), 9, D)
        state = None
        if with_state:
            state = map_state(lambda s: torch.randn_like(s).requires_grad_(), rnn(x)[1])
        arguments = rnn, x, state, torch.tensor(lengths)
        wanted = by_packing(pytest.MonkeyPatch(), *(_double(each) for each in arguments))
        for found, exact in zip(results(*arguments), wanted, strict=True):
            assert found.dtype is torch.float32
            torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(rnn(*arguments[1:])[0].double(), wanted[0], rtol=1e-4, atol=1e-5)

    def test_under_autocast(self):
        rnn, x, lengths = LSTM(D, N, num_layers=2, bidirectional=True), torch.randn(3, 9, D), torch.tensor([9, 4, 0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, unpacked = results(rnn, x, None, lengths), results(rnn, x, None, None)
        exact = results(rnn, x, None, lengths)
        for mine, like, wanted in zip(found, unpacked, exact, strict=True):
            assert mine.dtype is like.dtype
            torch.testing.assert_close(mine.float(), wanted, rtol=0.05, atol=0.05)

    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_dropped_weights_and_features(self, bidirectional, monkeypatch):
        rnn = LSTM(D, N, num_layers=2, weight_dropout=0.5, bidirectional=bidirectional)
        arguments = rnn, torch.randn(2, 9, D), None, torch.tensor([9, 5])
        torch.manual_seed(1)
        whole = results(*arguments)
        torch.manual_seed(1)
        for found, wanted in zip(by_packing(monkeypatch, *arguments), whole, strict=True):
            torch.testing.assert_close(found, wanted)
        rnn = LSTM(D, 100, num_layers=2, dropout=0.5, bidirectional=bidirectional)
        assert not torch.equal(rnn(*arguments[1:])[0], rnn(*arguments[1:])[0])
        rnn.eval()
        assert torch.equal(rnn(*arguments[1:])[0], rnn(*arguments[1:])[0])

    def test_a_gradient_is_taken_again_and_in_parts(self):
        rnn, x, lengths = LSTM(D, N, bidirectional=True), torch.randn(3, 6, D, requires_grad=True), [6, 2, 5]
        output, (h, c) = rnn(x, None, torch.tensor(lengths))
        inputs = [x, *rnn.parameters()]
        parts = [torch.autograd.grad(y.square().sum(), inputs, retain_graph=True) for y in (output, h, c, output)]
        whole = torch.autograd.grad(output.square().sum() + h.square().sum() + c.square().sum(), inputs)
        for first, second, third, again, total in zip(*parts, whole, strict=True):
            torch.testing.assert_close(first + second + third, total)
            assert torch.equal(again, first)

    def test_a_second_derivative_is_refused(self):
        x = torch.randn(2, 4, D, requires_grad=True)
        output, _ = LSTM(D, N)(x, None, torch.tensor([4, 2]))
        (grad,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()

    def test_what_it_takes(self):
        weights = list(LSTM(D, N).parameters())
        x = torch.randn(1, D)
        assert serves(x, weights)
        assert not serves(x.double(), weights)
        assert not serves(x.bfloat16(), weights)
        with torch.autocast("cpu", torch.bfloat16):
            assert serves(x.bfloat16(), weights)  # from a layer below
            assert not serves(x.double(), weights)
        assert not serves(x, [weight.bfloat16() for weight in weights])
        assert not serves(x.to("meta"), [weight.to("meta") for weight in weights])

    @pytest.mark.parametrize(
        ("h", "c", "lengths"),
        [((1, 3, N), (1, 3, N + 1), [3, 5, 1]), ((2, 3, N), (2, 3, N), [3, 5, 1]), ((1, 3, N), (1, 3, N), [3, 7, 1])],
        ids=["cell", "layers", "length"],
    )
    def test_what_does_not_fit_is_an_error(self, h, c, lengths):
        with pytest.raises(RuntimeError):
            LSTM(D, N)(torch.randn(3, 5, D), (torch.zeros(h), torch.zeros(c)), torch.tensor(lengths))

    def test_weights_that_are_no_parameters_and_hooks(self, monkeypatch):
        rnn, x, lengths = LSTM(D, N), torch.randn(3, 6, D), torch.tensor([6, 2, 5])
        seen = []
        rnn.kernels[0].register_forward_hook(lambda *_: seen.append(1))
        rnn(x, None, lengths)
        assert seen
        rnn = LSTM(D, N)
        prune.l1_unstructured(rnn.kernels[0], "weight_hh_l0", 0.5)
        with torch.no_grad():
            output, _ = rnn(x, None, lengths)
            monkeypatch.setattr(kernels, "runs_lstm", lambda *_: False)
            assert torch.equal(rnn(x, None, lengths)[0], output)

    def test_gradients_only_of_what_wants_one(self):
        rnn, x, lengths = LSTM(D, N), torch.randn(3, 6, D), torch.tensor([6, 2, 5])
        whole = torch.autograd.grad(rnn(x, None, lengths)[0].square().sum(), list(rnn.parameters()))
        for name, parameter in rnn.named_parameters():
            parameter.requires_grad_("hh" in name)
        some = torch.autograd.grad(
            rnn(x, None, lengths)[0].square().sum(), [p for p in rnn.parameters() if p.requires_grad]
        )
        assert all(torch.equal(found, wanted) for found, wanted in zip(some, (whole[1], whole[3]), strict=True))


def _double(x):
    if isinstance(x, torch.nn.Module):
        return deepcopy(x).double()
    if isinstance(x, tuple):
        return tuple(map(_double, x))
    return x.detach().double().requires_grad_(x.requires_grad) if x is not None and x.is_floating_point() else x
