"""Layers that add to the training loss."""

from abc import ABC, abstractmethod

from torch import Tensor


class Penalized(ABC):
    """What a layer of a `SequenceModule` derives from to have a say in the training loss, whatever the task."""

    @abstractmethod
    def penalty(self) -> Tensor:
        """What is added to the mean loss of an item, a scalar; it depends on weights alone, not on the batch."""
