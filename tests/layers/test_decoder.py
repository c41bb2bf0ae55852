"""Every wiring with every network: `forward` against a loop of `recur`, and the equations by hand."""

import copy
from functools import partial

import pytest
import torch

from lightning_rnnattn import (
    GRU,
    LSTM,
    RNN,
    AdditiveScore,
    Attention,
    BahdanauDecoder,
    DotScore,
    Elman,
    GeneralScore,
    InputFeedingDecoder,
    LuongDecoder,
    Residual,
    ScaledDotScore,
    Sparsemax,
    UserError,
)
from lightning_rnnattn.layers import DecoderState, map_state
from lightning_rnnattn.layers.bridges import StateShape
from lightning_rnnattn.ops import lengths_mask

DECODERS = [BahdanauDecoder, LuongDecoder, InputFeedingDecoder]
CELLS = [LSTM, GRU, Elman, partial(Elman, relu=True)]
B, T, S, E, M, N = 3, 5, 7, 4, 6, 8


class Averaging(RNN):
    """A network of a user's own, without kernels."""

    def __init__(self, input_size, hidden_size=N):
        super().__init__()
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, hidden_size
        self.proj = torch.nn.Linear(input_size, hidden_size)

    def forward(self, x, state=None, lengths=None):
        h = x.new_zeros(x.shape[0], self.hidden_size) if state is None else state[0]
        outputs = []
        for x_t in self.proj(x).unbind(1):
            h = (h + x_t) / 2
            outputs.append(h)
        return torch.stack(outputs, 1), h[None]


def random_state(decoder, *shape):
    """A state for rows of the given shape, which asks for gradients."""
    known = StateShape.of(decoder.rnn)
    parts = [
        torch.randn(known.layers, *shape, known.size, dtype=torch.float64, requires_grad=True)
        for _ in range(known.parts)
    ]
    return parts[0] if len(parts) == 1 else tuple(parts)


def tensors(state):
    return [state] if isinstance(state, torch.Tensor) else list(state)


NETWORKS = [
    *(partial(cell, hidden_size=N, num_layers=layers) for cell in CELLS for layers in (1, 3)),
    partial(LSTM, hidden_size=N, num_layers=2, residual=True, layer_norm=True),
    Averaging,
]
ATTENTIONS = [
    partial(Attention, score=AdditiveScore),
    partial(Attention, score=GeneralScore, num_heads=2),
    partial(Attention, score=partial(ScaledDotScore, hidden_size=6), normalizer=Sparsemax),
]


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("attention", ATTENTIONS, ids=["additive", "general2", "sparse"])
@pytest.mark.parametrize("rnn", NETWORKS)
@pytest.mark.parametrize("wiring", DECODERS)
def test_forward_is_a_loop_of_recur(wiring, rnn, attention, need_weights):
    decoder = wiring(E, M, rnn=rnn, attention=attention).double()
    inputs = torch.randn(B, T, E, dtype=torch.float64, requires_grad=True)
    encoded = torch.randn(B, S, M, dtype=torch.float64, requires_grad=True)
    first = random_state(decoder, B)
    mask = lengths_mask(torch.tensor([S, 3, 0]), S)

    memory, state = decoder.memory(encoded, mask), decoder.start(first)
    features, weights = decoder(inputs, state, memory, need_weights)
    loop, loop_weights = [], []
    for t in range(T):
        out, state, found = decoder.recur(inputs[:, t, None], state, memory, need_weights)
        loop.append(out[:, 0])
        loop_weights.append(found)
    loop = torch.stack(loop, 1)
    assert features.shape == (B, T, decoder.output_size)
    torch.testing.assert_close(features, loop)
    if need_weights:
        torch.testing.assert_close(weights, torch.cat(loop_weights, dim=2))
        assert weights.shape == (B, decoder.attention.num_heads, T, S)
        assert not weights[2].any()
    else:
        assert weights is None

    leaves = [inputs, encoded, *tensors(first), *decoder.parameters()]
    grad = torch.randn_like(features)
    torch.testing.assert_close(
        torch.autograd.grad(features, leaves, grad, allow_unused=True, retain_graph=True),
        torch.autograd.grad(loop, leaves, grad, allow_unused=True),
    )


@pytest.mark.parametrize("num_heads", [1, 2])
@pytest.mark.parametrize("rnn", [LSTM, GRU])
@pytest.mark.parametrize("wiring", DECODERS)
def test_single_precision_by_compiled_loops_is_that_of_double(wiring, rnn, num_heads):
    attention = partial(Attention, score=AdditiveScore, num_heads=num_heads)
    exact = wiring(E, M, rnn=partial(rnn, hidden_size=N), attention=attention).double()
    first = [x.detach() for x in tensors(random_state(exact, B))]
    given, mask = [torch.randn(B, T, E), torch.randn(B, S, M), *first], lengths_mask(torch.tensor([S, 3, 0]), S)
    grad, results = torch.randn(B, T, exact.output_size), []
    for decoder, dtype in ((exact, torch.float64), (copy.deepcopy(exact).float(), torch.float32)):
        inputs, encoded, *parts = leaves = [x.to(dtype).requires_grad_() for x in given]
        state = decoder.start(parts[0] if len(parts) == 1 else tuple(parts))
        features, _ = decoder(inputs, state, decoder.memory(encoded, mask))
        leaves += decoder.parameters()
        results.append([features, *torch.autograd.grad(features, leaves, grad.to(dtype))])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wiring", DECODERS)
def test_compiles(wiring):
    decoder = wiring(E, M, rnn=partial(GRU, hidden_size=N))
    given = [torch.randn(B, T, E), torch.randn(B, S, M), torch.randn(1, B, N)]

    def read(inputs, encoded, state):
        return decoder(inputs, decoder.start(state), decoder.memory(encoded))[0]

    results = []
    for function in (read, torch.compile(read, backend="aot_eager")):
        leaves = [x.clone().requires_grad_() for x in given]
        features = function(*leaves)
        results.append([features, *torch.autograd.grad((features**2).sum(), [*leaves, *decoder.parameters()])])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("rnn", NETWORKS)
@pytest.mark.parametrize("wiring", DECODERS)
def test_hypotheses_share_a_memory_and_nothing_else(wiring, rnn):
    decoder = wiring(E, M, rnn=rnn).double()
    encoded, num = torch.randn(B, S, M, dtype=torch.float64), 4
    mask = lengths_mask(torch.tensor([S, 3, 1]), S)
    memory = decoder.memory(encoded, mask)
    inputs = torch.randn(2, B, num, E, dtype=torch.float64)
    together = decoder.start(random_state(decoder, B)).map(
        lambda x, dim: x.repeat_interleave(num, dim + 1) * torch.rand(num, 1, dtype=torch.float64)
    )
    alone = [together.map(lambda x, dim, k=k: x.narrow(dim + 1, k, 1)) for k in range(num)]
    for x in inputs:
        features, together, weights = decoder.recur(x, together, memory, need_weights=True)
        assert weights.shape == (B, 1, num, S)
        for k in range(num):
            out, alone[k], own = decoder.recur(x[:, k, None], alone[k], memory, need_weights=True)
            torch.testing.assert_close(features[:, k], out[:, 0])
            torch.testing.assert_close(weights[:, :, k], own[:, :, 0])


def test_a_state_maps_batch_and_hypotheses():
    state = DecoderState((torch.zeros(2, B, 1, N), torch.zeros(2, B, 1, N)), torch.zeros(B, 1, N))
    halved = state.map(lambda x, dim: x.narrow(dim, 0, 1))
    assert [x.shape for x in (*halved.rnn, halved.fed)] == [(2, 1, 1, N), (2, 1, 1, N), (1, 1, N)]
    assert [x.shape for x in DecoderState.of(state.rows(), B, state.fed).rnn] == [(2, B, 1, N)] * 2


def lstm_by_hand(kernel, x, h, c):
    gates = kernel.weight_ih_l0 @ x + kernel.bias_ih_l0 + kernel.weight_hh_l0 @ h + kernel.bias_hh_l0
    i, f, g, o = gates.view(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_by_hand(kernel, x, h):
    x_r, x_z, x_n = (kernel.weight_ih_l0 @ x + kernel.bias_ih_l0).view(3, -1)
    h_r, h_z, h_n = (kernel.weight_hh_l0 @ h + kernel.bias_hh_l0).view(3, -1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    return (1 - z) * torch.tanh(x_n + r * h_n) + z * h


def test_bahdanau_by_hand():
    """e_ij = v . tanh(W s_{i-1} + U h_j + b), c_i = sum_j alpha_ij h_j, s_i = GRU([y_{i-1}; c_i], s_{i-1})."""
    decoder = BahdanauDecoder(E, M, rnn=partial(GRU, hidden_size=N)).double()
    y, h = torch.randn(T, E, dtype=torch.float64), torch.randn(S, M, dtype=torch.float64)
    s = s_0 = torch.randn(N, dtype=torch.float64)
    score, (kernel,), rows, alphas = decoder.attention.score, decoder.rnn.kernels, [], []
    for y_i in y:
        w_s = score.query_proj.weight @ s + score.query_proj.bias
        e = torch.stack([score.v[0] @ torch.tanh(w_s + score.key_proj.weight @ h_j) for h_j in h])
        alpha = e.exp() / e.exp().sum()
        c = sum(a * h_j for a, h_j in zip(alpha, h, strict=True))
        s = gru_by_hand(kernel, torch.cat([y_i, c]), s)
        rows.append(torch.tanh(decoder.combine.proj.weight @ torch.cat([c, y_i, s])))
        alphas.append(alpha)
    features, weights = decoder(y[None], decoder.start(s_0[None, None]), decoder.memory(h[None]), need_weights=True)
    torch.testing.assert_close(features[0], torch.stack(rows))
    torch.testing.assert_close(weights[0, 0], torch.stack(alphas))


@pytest.mark.parametrize("feeds", [False, True])
def test_luong_by_hand(feeds):
    """s_t = LSTM([y_{t-1}; ~s_{t-1}], s_{t-1}), e_tj = s_t . W h_j, ~s_t = tanh(W_c [c_t; s_t])."""
    wiring = InputFeedingDecoder if feeds else LuongDecoder
    decoder = wiring(E, M, rnn=partial(LSTM, hidden_size=N)).double()
    y, h = torch.randn(T, E, dtype=torch.float64), torch.randn(S, M, dtype=torch.float64)
    s, c = s_0, c_0 = torch.randn(2, N, dtype=torch.float64)
    attentional, rows, alphas = torch.zeros(N, dtype=torch.float64), [], []
    for y_t in y:
        x = torch.cat([y_t, attentional]) if feeds else y_t
        s, c = lstm_by_hand(decoder.rnn.kernels[0], x, s, c)
        e = torch.stack([s @ decoder.attention.score.key_proj.weight @ h_j for h_j in h])
        alpha = e.exp() / e.exp().sum()
        context = sum(a * h_j for a, h_j in zip(alpha, h, strict=True))
        attentional = torch.tanh(decoder.combine.proj.weight @ torch.cat([context, s]))
        rows.append(attentional)
        alphas.append(alpha)
    start = decoder.start((s_0[None, None], c_0[None, None]))
    features, weights = decoder(y[None], start, decoder.memory(h[None]), need_weights=True)
    torch.testing.assert_close(features[0], torch.stack(rows))
    torch.testing.assert_close(weights[0, 0], torch.stack(alphas))


@pytest.mark.parametrize("wiring", DECODERS)
def test_dropout_between_layers_acts_in_training_only(wiring):
    decoder = wiring(E, M, rnn=partial(LSTM, hidden_size=N, num_layers=2, dropout=0.5))
    memory, inputs = decoder.memory(torch.randn(B, S, M)), torch.randn(B, T, E)
    state = decoder.start((torch.zeros(2, B, N), torch.zeros(2, B, N)))
    assert not torch.equal(decoder(inputs, state, memory)[0], decoder(inputs, state, memory)[0])
    decoder.eval()
    assert torch.equal(decoder(inputs, state, memory)[0], decoder(inputs, state, memory)[0])


@pytest.mark.parametrize("attention", ATTENTIONS, ids=["additive", "general2", "sparse"])
@pytest.mark.parametrize("rnn", [LSTM, GRU])
@pytest.mark.parametrize("wiring", DECODERS)
def test_bfloat16_autocast(wiring, rnn, attention):
    decoder = wiring(E, M, rnn=partial(rnn, hidden_size=N), attention=attention)
    inputs, encoded = torch.randn(B, T, E), torch.randn(B, S, M, requires_grad=True)
    mask = lengths_mask(torch.tensor([S, 3, 0]), S)
    first = map_state(lambda x: x.float().detach(), random_state(decoder, B))
    exact, _ = decoder(inputs, decoder.start(first), decoder.memory(encoded, mask))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough, _ = decoder(inputs, decoder.start(first), decoder.memory(encoded, mask))
    torch.testing.assert_close(rough.float(), exact, atol=0.1, rtol=0.1)
    rough.float().sum().backward()
    assert all(p.grad is None or (p.grad.dtype == p.dtype and p.grad.isfinite().all()) for p in decoder.parameters())
    assert not encoded.grad[2].any()


@pytest.mark.parametrize("wiring", DECODERS)
def test_residual_in_place_of_tanh(wiring):
    decoder = wiring(E, M, combine=Residual)
    state = decoder.start(map_state(lambda x: x.float().detach(), random_state(decoder, B)))
    memory = decoder.memory(torch.randn(B, S, M))
    before, _ = decoder(torch.randn(B, T, E), state, memory)
    assert before.shape == (B, T, decoder.output_size)


@pytest.mark.parametrize("wiring", DECODERS)
def test_what_cannot_decode_says_so(wiring):
    with pytest.raises(UserError, match="bidirectional must be false"):
        wiring(E, M, rnn=partial(LSTM, bidirectional=True))
    with pytest.raises(UserError, match="window=3"):
        wiring(E, M, attention=partial(Attention, score=GeneralScore, window=3))
    with pytest.raises(UserError, match="GeneralScore"):
        wiring(E, M, attention=partial(Attention, score=DotScore))


@pytest.mark.parametrize("wiring", DECODERS)
def test_several_tokens_of_several_hypotheses(wiring):
    decoder = wiring(E, M, rnn=partial(LSTM, hidden_size=N)).double()
    inputs = torch.randn(B, 2, T, E, dtype=torch.float64)
    memory = decoder.memory(torch.randn(B, S, M, dtype=torch.float64))
    alone = decoder.start(random_state(decoder, B))
    both = alone.map(lambda x, dim: torch.cat([x, x], dim + 1))
    features, _, weights = decoder.unroll(inputs, both, memory, need_weights=True)
    for k in range(2):
        expected, _, found = decoder.unroll(inputs[:, k : k + 1], alone, memory, need_weights=True)
        torch.testing.assert_close(features[:, k], expected[:, 0])
        torch.testing.assert_close(weights[:, :, k], found[:, :, 0])
