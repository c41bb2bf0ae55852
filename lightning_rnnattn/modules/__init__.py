"""LightningModules: one a task, on one small base."""

from lightning_rnnattn.modules.base import Loss, SequenceModule
from lightning_rnnattn.modules.checkpoint import load, read_checkpoint
from lightning_rnnattn.modules.classifier import SequenceClassifier
from lightning_rnnattn.modules.ensemble import Ensemble
from lightning_rnnattn.modules.labelling import Decisions, LabelModule
from lightning_rnnattn.modules.language_model import LanguageModel
from lightning_rnnattn.modules.metrics import BitsPerCharacter, LossMetric, Perplexity
from lightning_rnnattn.modules.neural_cache import NeuralCache
from lightning_rnnattn.modules.schedulers import WarmupCosine, WarmupInverseSquareRoot
from lightning_rnnattn.modules.schemes import BIO, IOB1, LabelScheme
from lightning_rnnattn.modules.seq2seq import Seq2Seq
from lightning_rnnattn.modules.seq2seq_cache import Seq2SeqCache
from lightning_rnnattn.modules.seq2seq_module import Seq2SeqModule
from lightning_rnnattn.modules.sharding import Sharded
from lightning_rnnattn.modules.tag_metrics import SentenceAccuracy, SpanF1, SpanPrecision, SpanRecall, TokenAccuracy
from lightning_rnnattn.modules.tagger import SequenceTagger
from lightning_rnnattn.modules.text_metrics import (
    BLEU,
    ChrF,
    ExactMatch,
    PhoneErrorRate,
    TextMetric,
    WordErrorRate,
)
from lightning_rnnattn.modules.views import AttentionView, ShowsAttention

__all__ = [
    "BIO",
    "BLEU",
    "IOB1",
    "AttentionView",
    "BitsPerCharacter",
    "ChrF",
    "Decisions",
    "Ensemble",
    "ExactMatch",
    "LabelModule",
    "LabelScheme",
    "LanguageModel",
    "Loss",
    "LossMetric",
    "NeuralCache",
    "Perplexity",
    "PhoneErrorRate",
    "SentenceAccuracy",
    "Seq2Seq",
    "Seq2SeqCache",
    "Seq2SeqModule",
    "SequenceClassifier",
    "SequenceModule",
    "SequenceTagger",
    "Sharded",
    "ShowsAttention",
    "SpanF1",
    "SpanPrecision",
    "SpanRecall",
    "TextMetric",
    "TokenAccuracy",
    "WarmupCosine",
    "WarmupInverseSquareRoot",
    "WordErrorRate",
    "load",
    "read_checkpoint",
]
