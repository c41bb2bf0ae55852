"""What recurrent networks do between their matrix products on a CPU, by compiled C++ (native.cpp).

Letters: N rows, D features of a state, G gates times D.
"""

import ctypes
from pathlib import Path

from torch import Tensor

from lightning_rnnattn.ops import native

_SOURCE = Path(__file__).with_name("native.cpp")


def step(
    cell: str,
    gates: Tensor,
    h: Tensor,
    c: Tensor | None = None,
    *,
    by_h: Tensor | None = None,
    bias: Tensor | None = None,
    h_before: Tensor | None = None,
    kept: Tensor | None = None,
    output: Tensor | None = None,
) -> None:
    """Takes states (N, D) a step further, in place.

    Args:
        cell: ``"lstm"``, ``"gru"``, ``"tanh"`` or ``"relu"``.
        gates: (N, G), the inputs' share; becomes what the gradient needs.
        h: becomes the output. An LSTM does not read it, but for ``h_before``.
        c: an LSTM's cell, becomes the next.
        by_h: (N, G), the state's share; where None, it is in ``gates``.
        bias: (G,), added to the state's share.
        h_before: becomes what h was.
        kept: becomes what else the gradient needs.
        output: becomes what h becomes.
    """
    native.call(library(), f"{cell}_step", (gates, by_h, bias, h, c, h_before, kept, output), h.shape)


def step_backward(
    cell: str,
    gates: Tensor,
    grad_h: Tensor,
    grad_c: Tensor | None,
    grad_gates: Tensor,
    grad_by_h: Tensor | None = None,
    *,
    h_before: Tensor | None = None,
    kept: Tensor | None = None,
    grad_output: Tensor | None = None,
) -> None:
    """Writes the gradients of both shares of the gates, (N, G).

    Args:
        cell: see `step`.
        gates: what `step` made of them.
        grad_h: of what h became; becomes that of what it was, but for what comes by its share of the gates.
        grad_c: the same of an LSTM's c.
        grad_gates: of the inputs' share, to be written.
        grad_by_h: of the state's share, where it is another: of a GRU.
        h_before: from `step`.
        kept: from `step`.
        grad_output: added to ``grad_h``.
    """
    arrays = (gates, h_before, kept, grad_output, grad_h, grad_c, grad_gates, grad_by_h)
    native.call(library(), f"{cell}_step_backward", arrays, grad_h.shape)


def library() -> ctypes.CDLL | None:
    """The compiled loops; see `lightning_rnnattn.ops.native.load`."""
    return native.load(_SOURCE, "a recurrent network's step")
