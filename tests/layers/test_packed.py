from copy import deepcopy
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils import prune

from lightning_rnnattn import GRU, LSTM, Elman
from lightning_rnnattn.layers import kernels, map_state
from lightning_rnnattn.layers.steps import unstack
from lightning_rnnattn.ops.recurrent import native, serves

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


def by_packing(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "compiles", lambda *_: False)
        return results(*arguments)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_has_no_say(cell, bidirectional):
    rnn, lengths = cell(D, N, num_layers=2, bidirectional=bidirectional), torch.tensor([9, 4, 0, 1])
    x = torch.randn(4, 9, D)
    garbage = x.clone()
    for row, length in zip(garbage, lengths, strict=True):
        row[length:] = torch.nan
    for way in (results, by_packing):
        clean = way(rnn, x, None, lengths)
        for found, wanted in zip(way(rnn, garbage, None, lengths), clean, strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.skipif(native.library() is None, reason="no C++ compiler")
class TestCompiled:
    """`run_compiled` against torch's kernel over packed sequences."""

    @settings(max_examples=60, deadline=None)
    @given(
        cell=st.sampled_from(CELLS),
        size=st.sampled_from([1, 4, 16, 21, 40]),
        num_layers=st.integers(1, 3),
        bidirectional=st.booleans(),
        lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5),
        with_state=st.booleans(),
        seed=st.integers(0, 100),
    )
    def test_gives_what_packing_gives(self, cell, size, num_layers, bidirectional, lengths, with_state, seed):
        torch.manual_seed(seed)
        rnn = cell(D, size, num_layers=num_layers, bidirectional=bidirectional)
        x = torch.randn(len(lengths), 9, D)
        state = None
        if with_state:
            state = map_state(lambda s: torch.randn_like(s).requires_grad_(), rnn(x)[1])
        arguments = rnn, x, state, torch.tensor(lengths)
        wanted = by_packing(*(_double(each) for each in arguments))
        for found, exact in zip(results(*arguments), wanted, strict=True):
            assert found.dtype is torch.float32
            torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(rnn(*arguments[1:])[0].double(), wanted[0], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("cell", CELLS)
    def test_under_autocast(self, cell):
        rnn, x, lengths = cell(D, N, num_layers=2, bidirectional=True), torch.randn(3, 9, D), torch.tensor([9, 4, 0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, unpacked = results(rnn, x, None, lengths), results(rnn, x, None, None)
        exact = results(rnn, x, None, lengths)
        for mine, like, wanted in zip(found, unpacked, exact, strict=True):
            assert mine.dtype is like.dtype
            torch.testing.assert_close(mine.float(), wanted, rtol=0.05, atol=0.05)

    @pytest.mark.parametrize("bidirectional", [False, True])
    @pytest.mark.parametrize("cell", CELLS)
    def test_dropped_weights(self, cell, bidirectional):
        rnn = cell(D, N, num_layers=2, weight_dropout=0.5, bidirectional=bidirectional)
        arguments = rnn, torch.randn(2, 9, D), None, torch.tensor([9, 5])
        torch.manual_seed(1)
        whole = results(*arguments)
        torch.manual_seed(1)
        for found, wanted in zip(by_packing(*arguments), whole, strict=True):
            torch.testing.assert_close(found, wanted)

    @pytest.mark.parametrize("training", [True, False])
    def test_features_are_dropped_between_layers(self, training):
        rnn = Elman(50, 50, relu=True, num_layers=2, dropout=0.25).train(training)
        for name, parameter in rnn.named_parameters():  # both layers give what they read
            torch.nn.init.eye_(parameter) if "weight_ih" in name else torch.nn.init.zeros_(parameter)
        output, _ = rnn(torch.ones(2, 9, 50), None, torch.tensor([9, 5]))
        real = torch.cat([output[0], output[1, :5]])
        kept = real != 0
        assert kept.double().mean() == pytest.approx(0.75 if training else 1.0, abs=0.06)
        torch.testing.assert_close(real, kept / (0.75 if training else 1.0))

    @pytest.mark.parametrize("cell", CELLS)
    def test_a_gradient_is_taken_again_and_in_parts(self, cell):
        rnn, x, lengths = cell(D, N, bidirectional=True), torch.randn(3, 6, D, requires_grad=True), [6, 2, 5]
        output, after = rnn(x, None, torch.tensor(lengths))
        inputs, made = [x, *rnn.parameters()], [output, *unstack(after)[0], *unstack(after)[1]]
        parts = [torch.autograd.grad(y.square().sum(), inputs, retain_graph=True) for y in (*made, output)]
        whole = torch.autograd.grad(sum(y.square().sum() for y in made), inputs)
        for (first, *others, again), total in zip(zip(*parts, strict=True), whole, strict=True):
            torch.testing.assert_close(first + sum(others), total)
            assert torch.equal(again, first)

    @pytest.mark.parametrize("frozen", [False, True])
    @pytest.mark.parametrize("cell", CELLS)
    def test_second_derivatives(self, cell, frozen):
        def gradients_of_a_gradient(rnn, x, lengths):
            output, _ = rnn(x, None, lengths)
            (grad,) = torch.autograd.grad(output.pow(3).sum(), x, create_graph=True)
            return torch.autograd.grad(grad.square().sum(), [x, *filter(lambda p: p.requires_grad, rnn.parameters())])

        rnn, x, lengths = cell(D, N, num_layers=2, bidirectional=True), torch.randn(3, 4, D), torch.tensor([4, 2, 0])
        for name, parameter in rnn.named_parameters():
            parameter.requires_grad_(not frozen or "hh" in name)
        x.requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "compiles", lambda *_: False)
            wanted = gradients_of_a_gradient(*map(_double, (rnn, x, lengths)))
        for found, exact in zip(gradients_of_a_gradient(rnn, x, lengths), wanted, strict=True):
            torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)

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

    @pytest.mark.parametrize("cell", CELLS)
    def test_gradients_by_weights_that_come_by_more_than_one_way(self, monkeypatch, cell):
        """A state that is carried, and an input that is made of a weight: differentiated twice, too."""

        def derivatives(rnn, x, lengths):
            x = x + rnn.kernels[0].weight_ih_l0[0]
            output, state = rnn(x, None, lengths)
            output, _ = rnn(x, state, lengths)
            first = torch.autograd.grad(output.square().sum(), rnn.parameters(), create_graph=True)
            return *first, *torch.autograd.grad(sum(grad.square().sum() for grad in first), rnn.parameters())

        rnn, x, lengths = cell(D, N, num_layers=2), torch.randn(3, 5, D), torch.tensor([5, 2, 3])
        found = derivatives(rnn, x, lengths)
        monkeypatch.setattr(kernels, "compiles", lambda *_: False)
        for mine, exact in zip(found, derivatives(*map(_double, (rnn, x, lengths))), strict=True):
            torch.testing.assert_close(mine.double(), exact, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("cell", CELLS)
    def test_a_hook_of_a_parameter_runs_once(self, cell):
        rnn, x, lengths, seen = cell(D, N), torch.randn(3, 5, D), torch.tensor([5, 2, 3]), []
        rnn.kernels[0].weight_hh_l0.register_hook(lambda grad: seen.append(grad))
        rnn(x, None, lengths)[0].sum().backward(create_graph=True)
        assert len(seen) == 1

    @pytest.mark.parametrize("cell", CELLS)
    def test_a_state_of_another_kind_is_an_error(self, cell):
        rnn, x, lengths = cell(D, N), torch.randn(3, 5, D), torch.tensor([3, 5, 1])
        _, state = rnn(x)
        other = state[0] if isinstance(state, tuple) else (state, state)
        for wrong in (other, map_state(torch.Tensor.double, state), map_state(torch.Tensor.long, state)):
            with pytest.raises((RuntimeError, AttributeError, IndexError, ValueError)):
                rnn(x, wrong, lengths)

    @pytest.mark.parametrize("cell", CELLS)
    def test_another_default_device(self, cell):
        rnn, x, lengths = cell(D, N), torch.randn(3, 5, D), torch.tensor([3, 5, 1])
        with torch.device("meta"):
            assert torch.equal(rnn(x, None, lengths)[0], rnn(x, None, lengths)[0])

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
            monkeypatch.setattr(kernels, "compiles", lambda *_: False)
            assert torch.equal(rnn(x, None, lengths)[0], output)

    @pytest.mark.parametrize("cell", CELLS)
    def test_gradients_only_of_what_wants_one(self, cell):
        rnn, x, lengths = cell(D, N), torch.randn(3, 6, D), torch.tensor([6, 2, 5])
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
