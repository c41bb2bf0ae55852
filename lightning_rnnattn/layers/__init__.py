"""Layers of plain torch: recurrent networks and attention. None of them imports Lightning."""

from lightning_rnnattn.layers.attention import Attention, AttentionFactory, Memory
from lightning_rnnattn.layers.attentive_rnn import AttentiveRNN
from lightning_rnnattn.layers.characters import CharacterEncoder, CharacterFactory
from lightning_rnnattn.layers.combine import Attentional, Combine, CombineFactory, Residual
from lightning_rnnattn.layers.crf import CRFOutput
from lightning_rnnattn.layers.dropout import LockedDropout
from lightning_rnnattn.layers.inputs import Features, InputFactory, InputLayer, TokenEmbedding
from lightning_rnnattn.layers.normalizers import Entmax15, Normalizer, NormalizerFactory, Softmax, Sparsemax
from lightning_rnnattn.layers.pooling import (
    AttentionPooling,
    LastPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
    PoolingFactory,
)
from lightning_rnnattn.layers.rnn import GRU, LSTM, RNN, Elman, KernelRNN, RNNFactory, State, map_state
from lightning_rnnattn.layers.stepped import LayerNormLSTM, ZoneoutLSTM
from lightning_rnnattn.layers.tag_output import SoftmaxOutput, TagOutput, TagOutputFactory

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "AttentionFactory",
    "AttentionPooling",
    "Attentional",
    "AttentiveRNN",
    "CRFOutput",
    "CharacterEncoder",
    "CharacterFactory",
    "Combine",
    "CombineFactory",
    "Elman",
    "Entmax15",
    "Features",
    "InputFactory",
    "InputLayer",
    "KernelRNN",
    "LastPooling",
    "LayerNormLSTM",
    "LockedDropout",
    "MaxPooling",
    "MeanPooling",
    "Memory",
    "Normalizer",
    "NormalizerFactory",
    "Pooling",
    "PoolingFactory",
    "RNNFactory",
    "Residual",
    "Softmax",
    "SoftmaxOutput",
    "Sparsemax",
    "State",
    "TagOutput",
    "TagOutputFactory",
    "TokenEmbedding",
    "ZoneoutLSTM",
    "map_state",
]
