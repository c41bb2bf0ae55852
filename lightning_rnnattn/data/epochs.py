"""Loaders that know where they are in an epoch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

import lightning.pytorch as L

from lightning_rnnattn.errors import UserError


class EpochBatches(ABC):
    """Base of loaders that are iterated once per epoch, and go on in the middle of one.

    :meth:`state_dict` is the place within the epoch, counted in batches *given out*; Lightning saves it in checkpoints
    and goes on from there. (A torch DataLoader would add nothing but copies between processes to the slicing of arrays,
    and Lightning would change its sampler.)

    Attributes:
        epoch_batches: how many batches are taken in an epoch where it is cut short (``limit_train_batches``), or None:
            a state saved there begins the next epoch.
        epoch: says which epoch begins, for the order; where nothing else is set, iterations are counted.
    """

    def __init__(self) -> None:
        self.epoch_batches: int | None = None
        self.epoch: Callable[[], int] = count().__next__
        self._position = 0
        self._resumed = 0

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, first: int) -> Iterator[Any]:
        """The batches of an epoch that begins now, from number ``first`` on."""

    @property
    @abstractmethod
    def layout(self) -> Mapping[str, Any]:
        """What a place within the epoch refers to, by name; another process of the run has the same."""

    def follow(self, trainer: L.Trainer | None) -> None:
        """Lets a trainer say which epoch it is, and where its epochs are cut short."""
        if trainer is None:
            return
        # Asked when an epoch begins: what is resumed at an epoch's end loads no state.
        self.epoch = partial(getattr, trainer, "current_epoch")  # no lambda: it can be pickled
        limit = trainer.limit_train_batches
        self.epoch_batches = limit if isinstance(limit, int) else int(limit * len(self))

    def __iter__(self) -> Iterator[Any]:
        # A generator: what was loaded is used up by the first batch asked for, however many iterators are made before.
        first, self._resumed = self._resumed, 0
        for position, batch in enumerate(self.batches(first), start=first):
            self._position = position + 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The place within the epoch, and the layout that it refers to."""
        end = min(len(self), self.epoch_batches or len(self))
        return {"position": self._position % end, "layout": dict(self.layout)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next epoch begin where :meth:`state_dict` was taken.

        Raises:
            UserError: if that was in the middle of an epoch over another layout.
        """
        position = state["position"]
        before = state["layout"] if position else {}
        differ = [
            f"{before.get(name)} {name}, now {now}" for name, now in self.layout.items() if before.get(name) != now
        ]
        if position and differ:
            raise UserError(
                f"the checkpoint is from the middle of an epoch (batch {position}) over other batches"
                f" ({'; '.join(differ)}): resume with the same, or from a checkpoint of an epoch's end"
            )
        self._resumed = self._position = position
