"""Attention scores: how well each query matches each key. One class per file; a new score is a new file."""

from lightning_rnnattn.scores.additive import AdditiveScore
from lightning_rnnattn.scores.base import AttentionScore, ScoreFactory
from lightning_rnnattn.scores.cosine import CosineScore
from lightning_rnnattn.scores.dot import DotScore
from lightning_rnnattn.scores.general import GeneralScore
from lightning_rnnattn.scores.product import ProductScore
from lightning_rnnattn.scores.scaled_dot import ScaledDotScore

__all__ = [
    "AdditiveScore",
    "AttentionScore",
    "CosineScore",
    "DotScore",
    "GeneralScore",
    "ProductScore",
    "ScaledDotScore",
    "ScoreFactory",
]
