from functools import partial

import pytest
import torch

from lightning_rnnattn import LSTM, Attention, AttentiveRNN, BahdanauDecoder, Gated, UserError


def test_a_gate_starts_nearly_closed():
    hidden, context = torch.zeros(2, 3, 5), torch.ones(2, 3, 5)
    torch.testing.assert_close(Gated(5, 5)(hidden, context), torch.full((2, 3, 5), 1 / (1 + 20.085537)))


def test_what_is_gated_lies_between_output_and_context():
    gated = Gated(5, 5).double()
    torch.nn.init.normal_(gated.proj.weight, std=100)
    hidden, context = torch.randn(2, 100, 5, dtype=torch.float64)
    result = gated(hidden, context)
    assert (torch.minimum(hidden, context) - 1e-12 <= result).all()
    assert (result <= torch.maximum(hidden, context) + 1e-12).all()


def test_a_gate_needs_equal_sizes():
    with pytest.raises(UserError, match=r"Gated needs .* have 8 and 6 features"):
        AttentiveRNN(4, partial(LSTM, hidden_size=8), partial(Attention, value_dim=6, window=3), Gated)
    with pytest.raises(UserError, match="take Attentional or Residual"):
        BahdanauDecoder(4, 8, rnn=partial(LSTM, hidden_size=8), combine=Gated)
