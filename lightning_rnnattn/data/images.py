"""Images as sequences.

Letters: B batch, H height, W width, T time, F features.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_rnnattn.data.class_batch import ClassBatch
from lightning_rnnattn.data.padded import Padded
from lightning_rnnattn.errors import require_seed
from lightning_rnnattn.spec import Described


class ImageView(Described):
    """How an image becomes a sequence: a frozen dataclass."""

    @abstractmethod
    def sequences(self, images: Tensor) -> Tensor:
        """Images (B, H, W) as sequences (B, T, F)."""


@dataclass(frozen=True)
class Rows(ImageView):
    """A row is a step: T is the height, F the width."""

    def sequences(self, images: Tensor) -> Tensor:
        """See `ImageView.sequences`."""
        return images


@dataclass(frozen=True)
class Pixels(ImageView):
    """A pixel is a step, row by row: T is height times width, F is one (Le et al. 2015).

    Args:
        permutation_seed: what one fixed order of the pixels, the same for all images, is drawn from; None leaves them
            in place. A permuted image has no neighbours left: only long memory helps.

    Raises:
        UserError: if the seed is out of range.
    """

    permutation_seed: int | None = None

    def __post_init__(self) -> None:
        require_seed("", permutation_seed=self.permutation_seed)

    def sequences(self, images: Tensor) -> Tensor:
        """See `ImageView.sequences`."""
        pixels = images.flatten(1)
        if self.permutation_seed is not None:
            order = np.random.RandomState(self.permutation_seed).permutation(pixels.shape[1])
            pixels = pixels[:, torch.from_numpy(order)]
        return pixels.unsqueeze(-1)


class ImageExamples:
    """The images of a split; they stay bytes until they are in a batch.

    Args:
        images: (N, H, W) uint8.
        labels: (N,) int64; None where there are none.
        view: how an image becomes a sequence.
        mean: what is subtracted from pixels in [0, 1].
        std: what they are then divided by.

    Attributes:
        input_size: F.
    """

    def __init__(self, images: Tensor, labels: Tensor | None, view: ImageView, mean: float, std: float) -> None:
        self._images, self._labels, self._view = images, labels, view
        self._mean, self._std = mean, std
        _, steps, self.input_size = view.sequences(images[:1]).shape
        self.lengths = np.full(len(images), steps)

    def collate(self, indices: Sequence[int], counts: bool) -> ClassBatch:
        """See `Examples.collate`."""
        rows = torch.tensor(indices)
        values = self._view.sequences(self._images[rows]).float().div_(255).sub_(self._mean).div_(self._std)
        return ClassBatch(
            Padded(values, torch.full((len(rows),), values.shape[1])),
            None if self._labels is None else self._labels[rows],
            torch.full((len(rows),), counts),
            tuple(indices),
            None,
        )
