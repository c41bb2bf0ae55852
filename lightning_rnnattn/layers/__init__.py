"""Layers of plain torch: recurrent networks and attention. None of them imports Lightning."""

from lightning_rnnattn.layers.attention import Attention, AttentionFactory, Memory
from lightning_rnnattn.layers.combine import Attentional, Combine, CombineFactory, Residual
from lightning_rnnattn.layers.normalizers import Entmax15, Normalizer, NormalizerFactory, Softmax, Sparsemax
from lightning_rnnattn.layers.rnn import GRU, LSTM, RNN, Elman, KernelRNN, RNNFactory, State, map_state

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "AttentionFactory",
    "Attentional",
    "Combine",
    "CombineFactory",
    "Elman",
    "Entmax15",
    "KernelRNN",
    "Memory",
    "Normalizer",
    "NormalizerFactory",
    "RNNFactory",
    "Residual",
    "Softmax",
    "Sparsemax",
    "State",
    "map_state",
]
