"""Sequences of different lengths as one tensor.

Letters: B batch, T time, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_rnnattn.ops.masks import lengths_mask


@dataclass  # neither frozen, which Lightning cannot cast (precision 64), nor a NamedTuple, whose lengths DDP would move
class Padded:
    """Sequences side by side; what lies past the end of one is zero, and masked wherever it matters.

    Attributes:
        values: (B, T) int64 ids, or (B, T, F) features.
        lengths: (B,) int64, on the CPU wherever the values are, so that no step waits for a device.
    """

    values: Tensor
    lengths: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Padded":
        """The same with its values on a device; Lightning calls it for every batch."""
        return Padded(self.values.to(device, non_blocking=non_blocking), self.lengths)

    @property
    def mask(self) -> Tensor:
        """(B, T) bool on the device of the values, True = real."""
        return lengths_mask(self.lengths, self.values.shape[1]).to(self.values.device)


def pad(rows: Sequence[Tensor]) -> Padded:
    """Puts sequences (T,) or (T, F) of one dtype side by side; T is at least 1, so that every layer can run.

    Example:
        >>> padded = pad([torch.tensor([5, 6, 7]), torch.tensor([8])])
        >>> padded.values, padded.lengths
        (tensor([[5, 6, 7],
                [8, 0, 0]]), tensor([3, 1]))
    """
    lengths = torch.tensor([len(row) for row in rows])
    values = rows[0].new_zeros(len(rows), max(1, int(lengths.max())), *rows[0].shape[1:])
    for place, row in zip(values, rows, strict=True):
        place[: len(row)] = row
    return Padded(values, lengths)
