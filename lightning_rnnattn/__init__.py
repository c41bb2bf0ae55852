"""Recurrent networks with attention for PyTorch Lightning.

The names below are imported when they are first used, so that ``import lightning_rnnattn`` costs nothing, and layers,
scores and ops can be used without Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lightning_rnnattn.data import MNIST as MNIST
    from lightning_rnnattn.data import ClassifiedDataModule as ClassifiedDataModule
    from lightning_rnnattn.data import CMUDict as CMUDict
    from lightning_rnnattn.data import CMUStress as CMUStress
    from lightning_rnnattn.data import Columns as Columns
    from lightning_rnnattn.data import CoNLLU as CoNLLU
    from lightning_rnnattn.data import PairDataModule as PairDataModule
    from lightning_rnnattn.data import PairTableDataModule as PairTableDataModule
    from lightning_rnnattn.data import Pixels as Pixels
    from lightning_rnnattn.data import RecordedDataModule as RecordedDataModule
    from lightning_rnnattn.data import Rows as Rows
    from lightning_rnnattn.data import TaggedDataModule as TaggedDataModule
    from lightning_rnnattn.data import TextDataModule as TextDataModule
    from lightning_rnnattn.data import TinyShakespeare as TinyShakespeare
    from lightning_rnnattn.data import WordLines as WordLines
    from lightning_rnnattn.decoding import BeamSearch as BeamSearch
    from lightning_rnnattn.decoding import Greedy as Greedy
    from lightning_rnnattn.decoding import Hypothesis as Hypothesis
    from lightning_rnnattn.decoding import Sampling as Sampling
    from lightning_rnnattn.decoding import Search as Search
    from lightning_rnnattn.decoding import generate as generate
    from lightning_rnnattn.errors import UserError as UserError
    from lightning_rnnattn.layers import GRU as GRU
    from lightning_rnnattn.layers import LSTM as LSTM
    from lightning_rnnattn.layers import RNN as RNN
    from lightning_rnnattn.layers import AdaptiveSpanAttention as AdaptiveSpanAttention
    from lightning_rnnattn.layers import Attention as Attention
    from lightning_rnnattn.layers import Attentional as Attentional
    from lightning_rnnattn.layers import AttentionPooling as AttentionPooling
    from lightning_rnnattn.layers import AttentiveRNN as AttentiveRNN
    from lightning_rnnattn.layers import BahdanauDecoder as BahdanauDecoder
    from lightning_rnnattn.layers import Bridge as Bridge
    from lightning_rnnattn.layers import CharacterEncoder as CharacterEncoder
    from lightning_rnnattn.layers import Combine as Combine
    from lightning_rnnattn.layers import CRFOutput as CRFOutput
    from lightning_rnnattn.layers import Decoder as Decoder
    from lightning_rnnattn.layers import Elman as Elman
    from lightning_rnnattn.layers import Entmax15 as Entmax15
    from lightning_rnnattn.layers import Features as Features
    from lightning_rnnattn.layers import Gated as Gated
    from lightning_rnnattn.layers import InputFeedingDecoder as InputFeedingDecoder
    from lightning_rnnattn.layers import Int8Linear as Int8Linear
    from lightning_rnnattn.layers import LastPooling as LastPooling
    from lightning_rnnattn.layers import LastStateBridge as LastStateBridge
    from lightning_rnnattn.layers import LayerNormLSTM as LayerNormLSTM
    from lightning_rnnattn.layers import LockedDropout as LockedDropout
    from lightning_rnnattn.layers import LuongDecoder as LuongDecoder
    from lightning_rnnattn.layers import MaxPooling as MaxPooling
    from lightning_rnnattn.layers import MeanPooling as MeanPooling
    from lightning_rnnattn.layers import Memory as Memory
    from lightning_rnnattn.layers import MinGRU as MinGRU
    from lightning_rnnattn.layers import MinLSTM as MinLSTM
    from lightning_rnnattn.layers import MultiLabel as MultiLabel
    from lightning_rnnattn.layers import Normalizer as Normalizer
    from lightning_rnnattn.layers import Penalized as Penalized
    from lightning_rnnattn.layers import ProjectionBridge as ProjectionBridge
    from lightning_rnnattn.layers import Residual as Residual
    from lightning_rnnattn.layers import SingleLabel as SingleLabel
    from lightning_rnnattn.layers import Softmax as Softmax
    from lightning_rnnattn.layers import SoftmaxOutput as SoftmaxOutput
    from lightning_rnnattn.layers import Sparsemax as Sparsemax
    from lightning_rnnattn.layers import TokenEmbedding as TokenEmbedding
    from lightning_rnnattn.layers import ZeroBridge as ZeroBridge
    from lightning_rnnattn.layers import ZoneoutLSTM as ZoneoutLSTM
    from lightning_rnnattn.loggers import WandbRun as WandbRun
    from lightning_rnnattn.modules import BIO as BIO
    from lightning_rnnattn.modules import BLEU as BLEU
    from lightning_rnnattn.modules import IOB1 as IOB1
    from lightning_rnnattn.modules import AttentionView as AttentionView
    from lightning_rnnattn.modules import ChrF as ChrF
    from lightning_rnnattn.modules import Ensemble as Ensemble
    from lightning_rnnattn.modules import ExactMatch as ExactMatch
    from lightning_rnnattn.modules import LanguageModel as LanguageModel
    from lightning_rnnattn.modules import NeuralCache as NeuralCache
    from lightning_rnnattn.modules import PhoneErrorRate as PhoneErrorRate
    from lightning_rnnattn.modules import Seq2Seq as Seq2Seq
    from lightning_rnnattn.modules import SequenceClassifier as SequenceClassifier
    from lightning_rnnattn.modules import SequenceModule as SequenceModule
    from lightning_rnnattn.modules import SequenceTagger as SequenceTagger
    from lightning_rnnattn.modules import ShowsAttention as ShowsAttention
    from lightning_rnnattn.modules import WordErrorRate as WordErrorRate
    from lightning_rnnattn.modules import load as load
    from lightning_rnnattn.scores import AdditiveScore as AdditiveScore
    from lightning_rnnattn.scores import AttentionScore as AttentionScore
    from lightning_rnnattn.scores import CosineScore as CosineScore
    from lightning_rnnattn.scores import DotScore as DotScore
    from lightning_rnnattn.scores import GeneralScore as GeneralScore
    from lightning_rnnattn.scores import ScaledDotScore as ScaledDotScore
    from lightning_rnnattn.tokenizers import BPETokenizer as BPETokenizer
    from lightning_rnnattn.tokenizers import CharTokenizer as CharTokenizer
    from lightning_rnnattn.tokenizers import Tokenizer as Tokenizer
    from lightning_rnnattn.tokenizers import WordTokenizer as WordTokenizer

_PUBLIC = {
    "data": (
        "CMUDict",
        "CMUStress",
        "ClassifiedDataModule",
        "CoNLLU",
        "Columns",
        "MNIST",
        "PairDataModule",
        "PairTableDataModule",
        "Pixels",
        "RecordedDataModule",
        "Rows",
        "TaggedDataModule",
        "TextDataModule",
        "TinyShakespeare",
        "WordLines",
    ),
    "decoding": (
        "BeamSearch",
        "Greedy",
        "Hypothesis",
        "Sampling",
        "Search",
        "generate",
    ),
    "errors": ("UserError",),
    "layers": (
        "AdaptiveSpanAttention",
        "Attention",
        "AttentionPooling",
        "Attentional",
        "AttentiveRNN",
        "BahdanauDecoder",
        "Bridge",
        "CRFOutput",
        "CharacterEncoder",
        "Combine",
        "Decoder",
        "Elman",
        "Entmax15",
        "Features",
        "GRU",
        "Gated",
        "InputFeedingDecoder",
        "Int8Linear",
        "LSTM",
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
        "MultiLabel",
        "Normalizer",
        "Penalized",
        "ProjectionBridge",
        "RNN",
        "Residual",
        "SingleLabel",
        "Softmax",
        "SoftmaxOutput",
        "Sparsemax",
        "TokenEmbedding",
        "ZeroBridge",
        "ZoneoutLSTM",
    ),
    "loggers": ("WandbRun",),
    "modules": (
        "AttentionView",
        "BIO",
        "BLEU",
        "ChrF",
        "Ensemble",
        "ExactMatch",
        "IOB1",
        "LanguageModel",
        "NeuralCache",
        "PhoneErrorRate",
        "Seq2Seq",
        "SequenceClassifier",
        "SequenceModule",
        "SequenceTagger",
        "ShowsAttention",
        "WordErrorRate",
        "load",
    ),
    "scores": (
        "AdditiveScore",
        "AttentionScore",
        "CosineScore",
        "DotScore",
        "GeneralScore",
        "ScaledDotScore",
    ),
    "tokenizers": (
        "BPETokenizer",
        "CharTokenizer",
        "Tokenizer",
        "WordTokenizer",
    ),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
