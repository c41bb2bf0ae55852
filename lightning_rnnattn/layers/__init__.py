"""Layers of plain torch: recurrent networks and attention. None of them imports Lightning."""

from lightning_rnnattn.layers.attention import Attention, AttentionFactory, Memory
from lightning_rnnattn.layers.characters import CharacterEncoder, CharacterFactory
from lightning_rnnattn.layers.class_output import ClassOutput, ClassOutputFactory, MultiLabel, SingleLabel
from lightning_rnnattn.layers.combine import Attentional, Combine, CombineFactory, Residual
from lightning_rnnattn.layers.crf import CRFOutput
from lightning_rnnattn.layers.inputs import Features, InputFactory, InputLayer, TokenEmbedding
from lightning_rnnattn.layers.min_rnn import MinGRU, MinLSTM, MinRNN
from lightning_rnnattn.layers.normalizers import Entmax15, Normalizer, NormalizerFactory, Softmax, Sparsemax
from lightning_rnnattn.layers.pooling import (
    AttentionPooling,
    LastPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
    PoolingFactory,
    redundancy,
)
from lightning_rnnattn.layers.rnn import GRU, LSTM, RNN, Elman, KernelRNN, RNNFactory, StackedRNN, State, map_state
from lightning_rnnattn.layers.tag_output import SoftmaxOutput, TagOutput, TagOutputFactory

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Attention",
    "AttentionFactory",
    "AttentionPooling",
    "Attentional",
    "CRFOutput",
    "CharacterEncoder",
    "CharacterFactory",
    "ClassOutput",
    "ClassOutputFactory",
    "Combine",
    "CombineFactory",
    "Elman",
    "Entmax15",
    "Features",
    "InputFactory",
    "InputLayer",
    "KernelRNN",
    "LastPooling",
    "MaxPooling",
    "MeanPooling",
    "Memory",
    "MinGRU",
    "MinLSTM",
    "MinRNN",
    "MultiLabel",
    "Normalizer",
    "NormalizerFactory",
    "Pooling",
    "PoolingFactory",
    "RNNFactory",
    "Residual",
    "SingleLabel",
    "Softmax",
    "SoftmaxOutput",
    "Sparsemax",
    "StackedRNN",
    "State",
    "TagOutput",
    "TagOutputFactory",
    "TokenEmbedding",
    "map_state",
    "redundancy",
]
