"""Layers of plain torch: recurrent networks and attention. None of them imports Lightning."""

from lightning_rnnattn.layers.adaptive_span import AdaptiveSpanAttention
from lightning_rnnattn.layers.attention import Attention, AttentionFactory, Memory
from lightning_rnnattn.layers.attentive_rnn import AttentiveRNN
from lightning_rnnattn.layers.bahdanau import BahdanauDecoder
from lightning_rnnattn.layers.bridges import (
    Bridge,
    BridgeFactory,
    LastStateBridge,
    ProjectionBridge,
    StateShape,
    ZeroBridge,
)
from lightning_rnnattn.layers.characters import CharacterEncoder, CharacterFactory
from lightning_rnnattn.layers.class_output import ClassOutput, ClassOutputFactory, MultiLabel, SingleLabel
from lightning_rnnattn.layers.combine import Attentional, Combine, CombineFactory, Gated, Residual
from lightning_rnnattn.layers.crf import CRFOutput
from lightning_rnnattn.layers.decoder import Decoder, DecoderFactory, DecoderState
from lightning_rnnattn.layers.dropout import LockedDropout
from lightning_rnnattn.layers.input_feeding import InputFeedingDecoder
from lightning_rnnattn.layers.inputs import Features, InputFactory, InputLayer, TokenEmbedding
from lightning_rnnattn.layers.int8 import Int8Linear
from lightning_rnnattn.layers.kernels import GRU, LSTM, Elman, KernelRNN
from lightning_rnnattn.layers.luong import LuongDecoder
from lightning_rnnattn.layers.min_rnn import MinGRU, MinLSTM, MinRNN
from lightning_rnnattn.layers.normalizers import Entmax15, Normalizer, NormalizerFactory, Softmax, Sparsemax
from lightning_rnnattn.layers.penalized import Penalized
from lightning_rnnattn.layers.pooling import (
    AttentionPooling,
    LastPooling,
    MaxPooling,
    MeanPooling,
    Pooling,
    PoolingFactory,
    redundancy,
)
from lightning_rnnattn.layers.rnn import RNN, RNNFactory, StackedRNN, State, map_state
from lightning_rnnattn.layers.stepped import LayerNormLSTM, ZoneoutLSTM
from lightning_rnnattn.layers.tag_output import SoftmaxOutput, TagOutput, TagOutputFactory

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveSpanAttention",
    "Attention",
    "AttentionFactory",
    "AttentionPooling",
    "Attentional",
    "AttentiveRNN",
    "BahdanauDecoder",
    "Bridge",
    "BridgeFactory",
    "CRFOutput",
    "CharacterEncoder",
    "CharacterFactory",
    "ClassOutput",
    "ClassOutputFactory",
    "Combine",
    "CombineFactory",
    "Decoder",
    "DecoderFactory",
    "DecoderState",
    "Elman",
    "Entmax15",
    "Features",
    "Gated",
    "InputFactory",
    "InputFeedingDecoder",
    "InputLayer",
    "Int8Linear",
    "KernelRNN",
    "LastPooling",
    "LastStateBridge",
    "LayerNormLSTM",
    "LockedDropout",
    "LuongDecoder",
    "MaxPooling",
    "MeanPooling",
    "Memory",
    "MinGRU",
    "MinLSTM",
    "MinRNN",
    "MultiLabel",
    "Normalizer",
    "NormalizerFactory",
    "Penalized",
    "Pooling",
    "PoolingFactory",
    "ProjectionBridge",
    "RNNFactory",
    "Residual",
    "SingleLabel",
    "Softmax",
    "SoftmaxOutput",
    "Sparsemax",
    "StackedRNN",
    "State",
    "StateShape",
    "TagOutput",
    "TagOutputFactory",
    "TokenEmbedding",
    "ZeroBridge",
    "ZoneoutLSTM",
    "map_state",
    "redundancy",
]
