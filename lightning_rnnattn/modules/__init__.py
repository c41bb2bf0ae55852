"""LightningModules: one a task, on one small base."""

from lightning_rnnattn.modules.base import Loss, SequenceModule
from lightning_rnnattn.modules.checkpoint import load, read_checkpoint
from lightning_rnnattn.modules.language_model import LanguageModel
from lightning_rnnattn.modules.metrics import BitsPerCharacter, LossMetric, Perplexity
from lightning_rnnattn.modules.schedulers import WarmupCosine, WarmupInverseSquareRoot
from lightning_rnnattn.modules.schemes import BIO, IOB1, LabelScheme
from lightning_rnnattn.modules.sharding import Sharded
from lightning_rnnattn.modules.tag_metrics import SentenceAccuracy, SpanF1, SpanPrecision, SpanRecall, TokenAccuracy
from lightning_rnnattn.modules.tagger import SequenceTagger

__all__ = [
    "BIO",
    "IOB1",
    "BitsPerCharacter",
    "LabelScheme",
    "LanguageModel",
    "Loss",
    "LossMetric",
    "Perplexity",
    "SentenceAccuracy",
    "SequenceModule",
    "SequenceTagger",
    "Sharded",
    "SpanF1",
    "SpanPrecision",
    "SpanRecall",
    "TokenAccuracy",
    "WarmupCosine",
    "WarmupInverseSquareRoot",
    "load",
    "read_checkpoint",
]
