"""The textbook's equations by hand, in float64: ten random inputs of ten features, hidden size 5, 2 layers."""

from functools import partial

import pytest
import torch
from torch import nn

from lightning_rnnattn import Attention, Attentional, DotScore, Elman, Gated, LanguageModel, Residual, TokenEmbedding

STEPS, INPUT, HIDDEN, LAYERS = 10, 10, 5, 2


@pytest.fixture
def x():
    return torch.randn(STEPS, INPUT, dtype=torch.float64)


def elman_by_hand(rnn, x):
    """h_t = tanh(W_hh h_{t-1} + W_xh x_t + b_h), layer upon layer."""
    for layer in range(LAYERS):
        kernel = rnn.kernels[0]
        w_xh, w_hh, b_x, b_h = (
            getattr(kernel, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h, states = torch.zeros(HIDDEN, dtype=torch.float64), []
        for x_t in x:
            h = torch.tanh(w_hh @ h + w_xh @ x_t + (b_x + b_h))
            states.append(h)
        x = torch.stack(states)
    return x


def attention_by_hand(s):
    """e_ij = s_i . s_j, alpha_i = softmax_j(e_ij), context_i = sum_j alpha_ij s_j."""
    contexts, weights = [], []
    for s_i in s:
        e = torch.stack([s_i @ s_j for s_j in s])
        alpha = e.exp() / e.exp().sum()
        weights.append(alpha)
        contexts.append(sum(a * s_j for a, s_j in zip(alpha, s, strict=True)))
    return torch.stack(contexts), torch.stack(weights)


def test_elman_and_its_output_layer(x):
    rnn, output = Elman(INPUT, HIDDEN, num_layers=LAYERS).double(), nn.Linear(HIDDEN, 3).double()
    h = elman_by_hand(rnn, x)
    y = torch.stack([output.weight @ h_t + output.bias for h_t in h])  # y_t = W_hy h_t + b_y
    states, last = rnn(x[None])
    torch.testing.assert_close(states[0], h)
    torch.testing.assert_close(last[-1, 0], h[-1])
    torch.testing.assert_close(output(states)[0], y)


def test_dot_attention_over_the_states(x):
    rnn = Elman(INPUT, HIDDEN, num_layers=LAYERS).double()
    attention = Attention(HIDDEN, HIDDEN, score=DotScore)
    states, _ = rnn(x[None])
    context, weights = attention(states, attention.memory(states), need_weights=True)
    expected_context, expected_weights = attention_by_hand(elman_by_hand(rnn, x))
    torch.testing.assert_close(weights[0, 0], expected_weights)
    torch.testing.assert_close(context[0], expected_context)
    fused, _ = attention(states, attention.memory(states))
    torch.testing.assert_close(fused[0], expected_context)


def test_attention_as_the_output_layer_of_the_network(x):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = Elman(INPUT, HIDDEN, num_layers=LAYERS)
            self.attention = Attention(HIDDEN, HIDDEN, score=DotScore)
            self.output = nn.Linear(HIDDEN, INPUT)

        def forward(self, x):
            states, _ = self.rnn(x)
            context, _ = self.attention(states, self.attention.memory(states))
            return self.output(context)

    network = Network().double()
    context, _ = attention_by_hand(elman_by_hand(network.rnn, x))
    expected = context @ network.output.weight.T + network.output.bias
    torch.testing.assert_close(network(x[None])[0], expected)


@pytest.mark.parametrize("combine", [Attentional, Residual, Gated])
def test_language_model(combine):
    window = 4
    model = LanguageModel(
        vocab_size=7,
        input=partial(TokenEmbedding, embedding_size=INPUT),
        rnn=partial(Elman, hidden_size=HIDDEN, num_layers=LAYERS),
        attention=partial(Attention, score=DotScore, window=window),
        combine=combine,
    ).double()
    nn.init.normal_(model.core.combine.proj.weight)
    tokens = torch.randint(7, (STEPS,))
    h = elman_by_hand(model.core.rnn, model.input.embedding.weight[tokens])
    w_c, rows = model.core.combine.proj.weight, []
    for t in range(STEPS):
        reach = h[max(0, t - window + 1) : t + 1]
        alpha = (reach @ h[t]).softmax(0)
        c = alpha @ reach
        if combine is Attentional:
            rows.append(torch.tanh(w_c @ torch.cat([c, h[t]])))
        elif combine is Residual:
            rows.append(h[t] + w_c @ c)
        else:
            g = torch.sigmoid(w_c @ torch.cat([c, h[t]]) - 3.0)
            rows.append((1 - g) * h[t] + g * c)
    expected = torch.stack(rows) @ model.output.weight.T + model.output.bias
    logits, _ = model(tokens[None])
    torch.testing.assert_close(logits[0], expected)
