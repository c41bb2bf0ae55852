from functools import partial

import pytest
import torch

from lightning_rnnattn import MinGRU, MinLSTM, SequenceTagger
from lightning_rnnattn.layers import Features
from lightning_rnnattn.ops.scan import native

B, T, D, N = 3, 9, 4, 5


def activation(x):
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


def min_gru(x, h, weight, bias):
    """The paper's algorithm 2, without logarithms."""
    z, candidate = (x @ weight.T + bias).chunk(2, -1)
    z = torch.sigmoid(z)
    return (1 - z) * h + z * activation(candidate)


def min_lstm(x, h, weight, bias):
    """The paper's algorithm 4, without logarithms."""
    i, candidate, f = (x @ weight.T + bias).chunk(3, -1)
    f, i = torch.sigmoid(f), torch.sigmoid(i)
    return f / (f + i) * h + i / (f + i) * activation(candidate)


CELLS = [(MinGRU, min_gru), (MinLSTM, min_lstm)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("cell", "step"), CELLS)
def test_equals_the_equations_step_by_step_in_value_and_gradient(cell, step, dtype):
    rnn = cell(D, N).to(dtype)
    kernel = rnn.kernels[0]
    x = torch.randn(B, T, D, dtype=dtype, requires_grad=True)
    start = torch.randn(1, B, N, dtype=dtype, requires_grad=True)
    output, state = rnn(x, start)
    h, expected = start[0], []
    for t in range(T):
        h = step(x[:, t], h, kernel.weight, kernel.bias)
        expected.append(h)
    expected = torch.stack(expected, 1)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(state[0], h)
    leaves, weights = [x, start, *rnn.parameters()], torch.randn_like(output)
    torch.testing.assert_close(
        torch.autograd.grad((output * weights).sum(), leaves), torch.autograd.grad((expected * weights).sum(), leaves)
    )


@pytest.mark.parametrize(("cell", "step"), CELLS)
def test_the_second_direction_reads_backwards(cell, step):
    rnn = cell(D, N, bidirectional=True).double()
    x = torch.randn(B, T, D, dtype=torch.float64)
    output, state = rnn(x)
    weight, bias = (p.chunk(2)[1] for p in rnn.kernels[0].parameters())
    h = torch.zeros(B, N, dtype=torch.float64)
    for t in reversed(range(T)):
        h = step(x[:, t], h, weight, bias)
        torch.testing.assert_close(output[:, t, N:], h)
    torch.testing.assert_close(state[1], h)


def test_gates_that_both_underflow_share_evenly():
    rnn = MinLSTM(1, 1)
    with torch.no_grad():
        rnn.kernels[0].weight.zero_()
        rnn.kernels[0].bias.copy_(torch.tensor([-500.0, 0.5, -500.0]))
    output, _ = rnn(torch.zeros(1, 3, 1))
    torch.testing.assert_close(output.flatten(), torch.tensor([0.5, 0.75, 0.875]))


@pytest.mark.parametrize("cell", [MinGRU, MinLSTM])
def test_with_and_without_a_compiler_are_one(cell, monkeypatch):
    rnn, x, lengths = cell(D, N, num_layers=2, bidirectional=True), torch.randn(B, T, D), torch.tensor([T, 4, 0])
    compiled = rnn(x, None, lengths)
    monkeypatch.setattr(native, "library", lambda: None)
    torch.testing.assert_close(rnn(x, None, lengths), compiled)


@pytest.mark.parametrize("cell", [MinGRU, MinLSTM])
def test_half_precision_keeps_its_dtype(cell):
    rnn, x = cell(D, N), torch.randn(B, T, D)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = rnn(x)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), rnn(x)[0], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("cell", [MinGRU, MinLSTM])
def test_a_tagger_reads_both_ways(cell):
    tagger = SequenceTagger(D, 3, 0, input=Features, rnn=partial(cell, hidden_size=N, bidirectional=True)).eval()
    x, lengths = torch.randn(2, T, D), torch.tensor([T, 4])
    features = tagger.features(x, lengths)
    torch.testing.assert_close(features[1, :4], tagger.features(x[1:, :4])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [MinGRU, MinLSTM])
def test_compiles_as_one_graph(cell):
    rnn, x = cell(D, N, num_layers=2), torch.randn(B, T, D)
    compiled = torch.compile(rnn, fullgraph=True)
    torch.testing.assert_close(compiled(x), rnn(x))
    leaves = list(rnn.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(compiled(x)[0].sum(), leaves), torch.autograd.grad(rnn(x)[0].sum(), leaves)
    )
