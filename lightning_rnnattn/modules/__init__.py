"""LightningModules: one a task, on one small base."""

from lightning_rnnattn.modules.base import Loss, SequenceModule
from lightning_rnnattn.modules.checkpoint import load, read_checkpoint
from lightning_rnnattn.modules.language_model import LanguageModel
from lightning_rnnattn.modules.metrics import BitsPerCharacter, LossMetric, Perplexity
from lightning_rnnattn.modules.schedulers import WarmupCosine, WarmupInverseSquareRoot

__all__ = [
    "BitsPerCharacter",
    "LanguageModel",
    "Loss",
    "LossMetric",
    "Perplexity",
    "SequenceModule",
    "WarmupCosine",
    "WarmupInverseSquareRoot",
    "load",
    "read_checkpoint",
]
