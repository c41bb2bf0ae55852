"""What the callbacks share that average weights from some moment of a fit on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging


class DelayedAveraging(WeightAveraging):
    """Lightning's callback, with weights that are themselves until a subclass begins to average, in `should_update`.

    Then the mean is what is validated, what checkpoints have as the model's weights, and what the fit leaves in it.
    Weights that training goes on from are in the checkpoint beside it, so that a run resumes exactly.
    """

    def __init__(self) -> None:
        super().__init__(use_buffers=False)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin anew: a mean is of one fit."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._latest_update_step, self._latest_update_epoch = 0, -1

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the mean."""
        if has_mean(self):
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the others again."""
        if has_mean(self):
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing yet: what is saved now must have the weights that training goes on from."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the mean in the model."""
        if has_mean(self):
            self._copy_average_to_current(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the mean, lest it be mixed with what the trainer evaluates after the fit."""
        self._average_model = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the mean as the model's weights, beside the others."""
        if has_mean(self):
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take both out of the checkpoint."""
        if "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def has_mean(callback: WeightAveraging) -> bool:
    """Whether any weights have been averaged in the fit that goes on."""
    return callback._average_model is not None and bool(callback._average_model.n_averaged)


@contextmanager
def averaged(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Puts the mean in the place of the weights, as for a validation, where a callback of the trainer has one."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    means = [callback for callback in callbacks if isinstance(callback, WeightAveraging) and has_mean(callback)]
    for mean in means:
        mean._swap_models(module)
    try:
        yield
    finally:
        for mean in reversed(means):
            mean._swap_models(module)
