"""What a recurrent network with attention over its own outputs carries along a text.

Letters: B batch, T time of a new piece, P time carried from before, D features.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.layers.attention import Memory
from lightning_rnnattn.layers.rnn import State, map_state


class Past(NamedTuple):
    """Carried from one piece of text to the next.

    Attributes:
        rnn: the recurrent network's state.
        outputs: (B, P, D) its last outputs, the newest last; None without attention.
        mask: (B, P) bool, False before a text's start; None where all are real.
    """

    rnn: State
    outputs: Tensor | None
    mask: Tensor | None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Past":
        """Applies a function to each tensor."""
        outputs = None if self.outputs is None else function(self.outputs)
        return Past(map_state(function, self.rnn), outputs, None if self.mask is None else function(self.mask))


class Cache(NamedTuple):
    """Carried from token to token in generation: as `Past`, with the outputs projected once.

    Attributes:
        rnn: the recurrent network's state.
        memory: projected outputs; None without attention.
    """

    rnn: State
    memory: Memory | None


def extend(past: Past | None, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
    """Puts the carried outputs before new ones.

    Args:
        past: what is carried; None at a text's start.
        outputs: (B, T, D).

    Returns:
        (B, P + T, D) and their mask (B, P + T), or None where all are real.
    """
    if past is None or past.outputs is None:
        return outputs, None
    mask = None
    if past.mask is not None:
        mask = torch.cat([past.mask, past.mask.new_ones(outputs.shape[:2])], dim=1)
    return torch.cat([past.outputs, outputs], dim=1), mask


def newest(
    outputs: Tensor, mask: Tensor | None, keep: int, padding: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The last real outputs of each row, aligned to the end, so that whatever comes next is their neighbour.

    Args:
        outputs: (B, S, D).
        mask: (B, S) bool, or None where all but the padding are real.
        keep: number of outputs to return at most.
        padding: (B,) number of positions at each row's end that are none; None where there are none.

    Returns:
        (B, P, D), P <= keep, and their mask (B, P), or None where all are real.
    """
    size = outputs.shape[1]
    if padding is None:
        start = max(size - keep, 0)
        return outputs[:, start:], None if mask is None else mask[:, start:]
    index = size - padding.to(outputs.device).unsqueeze(-1) + torch.arange(-keep, 0, device=outputs.device)
    real = index >= 0
    index = index.clamp(min=0)
    if mask is not None:
        real = real & mask.gather(1, index)
    return outputs.gather(1, index.unsqueeze(-1).expand(-1, -1, outputs.shape[2])), real
