"""Decoding: functions over explicit steps, with explicit state."""

from lightning_rnnattn.decoding.generate import StepModel, evaluating, generate, stream

__all__ = ["StepModel", "evaluating", "generate", "stream"]
