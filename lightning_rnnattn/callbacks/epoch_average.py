"""The mean of the weights of several epochs."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.delayed_averaging import DelayedAveraging
from lightning_rnnattn.callbacks.run import validates
from lightning_rnnattn.errors import UserError


class EpochAverage(DelayedAveraging):
    """Validate, save and leave at the end the mean of the weights at the ends of epochs (checkpoint averaging).

    As Vaswani et al. (2017) average their last checkpoints, without the files (Izmailov et al. 2018): from epoch
    ``start`` on, the weights at the end of each count once. Until then it is the weights themselves. A moving average
    over steps is Lightning's ``EMAWeightAveraging``. Checkpoints have the mean as their weights, and those of training
    beside them, so that a run goes on exactly. Not with strategies that shard the weights.

    Args:
        start: the first epoch that counts, from 0.
    """

    def __init__(self, start: int = 0) -> None:
        super().__init__()
        if start < 0:
            raise UserError(f"EpochAverage: start is {start}: epochs count from 0")
        self.start = start

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether weights count: at the ends of epochs."""
        return epoch_idx is not None and epoch_idx >= self.start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the weights, unless the run is stopped in the middle of the epoch."""
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            super().on_train_epoch_end(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the mean; at an epoch's end, with this epoch's weights."""
        if validates(trainer):
            self.on_train_epoch_end(trainer, pl_module)
        super().on_validation_epoch_start(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Which steps and epochs have counted."""
        return {**super().state_dict(), "latest_update_epoch": self._latest_update_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state_dict)
        self._latest_update_epoch = state_dict["latest_update_epoch"]
