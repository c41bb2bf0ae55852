"""The linear recurrence as it is written: one step after another.

Letters: B batch, T time, D features.
"""

import torch
from torch import Tensor


def linear_scan_reference(a: Tensor, b: Tensor, start: Tensor | None = None, *, reverse: bool = False) -> Tensor:
    """What `linear_scan` computes, step by step; differentiable any number of times."""
    state = torch.zeros_like(b[:, 0]) if start is None else start
    states = []
    pairs = list(zip(a.unbind(1), b.unbind(1), strict=True))
    for a_t, b_t in reversed(pairs) if reverse else pairs:
        state = a_t * state + b_t
        states.append(state)
    return torch.stack(states[::-1] if reverse else states, dim=1)
