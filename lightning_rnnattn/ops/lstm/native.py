"""What an LSTM does between its matrix products on a CPU, by compiled C++ (native.cpp)."""

import ctypes
from pathlib import Path

from torch import Tensor

from lightning_rnnattn.ops import native

_SOURCE = Path(__file__).with_name("native.cpp")


def step(
    gates: Tensor,
    h: Tensor,
    c: Tensor,
    output: Tensor | None = None,
    h_before: Tensor | None = None,
    c_before: Tensor | None = None,
) -> None:
    """Takes states (N, D) a step further, in place; ``h`` is not read, but for ``h_before``.

    Args:
        gates: (N, 4 D); the logistic functions and the tanh of these take their place.
        h: becomes the output.
        c: becomes the next cell.
        output: becomes what h becomes.
        h_before: becomes what h was.
        c_before: becomes what c was.
    """
    native.call(library(), "lstm_step", (gates, h, c, h_before, c_before, output), c.shape)


def step_backward(
    gates: Tensor, c_before: Tensor, grad_output: Tensor | None, grad_h: Tensor, grad_c: Tensor, grad_gates: Tensor
) -> None:
    """Writes the gradient of the gates (N, 4 D), and in place of the gradient of c that of ``c_before``.

    Args:
        gates: what `step` made of them.
        c_before: the cell before the step.
        grad_output: added to ``grad_h``.
        grad_h: of what h became.
        grad_c: of what c became.
        grad_gates: to be written.
    """
    arrays = (gates, c_before, grad_output, grad_h, grad_c, grad_gates)
    native.call(library(), "lstm_step_backward", arrays, c_before.shape)


def library() -> ctypes.CDLL | None:
    """The compiled loops; see `lightning_rnnattn.ops.native.load`."""
    return native.load(_SOURCE, "an LSTM's cell")
