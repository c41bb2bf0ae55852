"""Decoding: functions over explicit steps, with explicit state."""

from lightning_rnnattn.decoding.beam import BeamSearch
from lightning_rnnattn.decoding.generate import StepModel, evaluating, generate, stream
from lightning_rnnattn.decoding.greedy import Greedy
from lightning_rnnattn.decoding.sampling import Sampling
from lightning_rnnattn.decoding.search import DecoderCache, DecoderModel, Hypothesis, Search

__all__ = [
    "BeamSearch",
    "DecoderCache",
    "DecoderModel",
    "Greedy",
    "Hypothesis",
    "Sampling",
    "Search",
    "StepModel",
    "evaluating",
    "generate",
    "stream",
]
