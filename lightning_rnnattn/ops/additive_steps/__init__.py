"""Additive attention to one memory, again and again, as a decoder needs it that feeds back what it found.

`steps` has the operation, `native` the compiled loops for CPUs behind it.
"""

from lightning_rnnattn.ops.additive_steps.steps import AdditiveSteps

__all__ = ["AdditiveSteps"]
