"""Averaged weights from the moment at which plain SGD gets no further."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_info

from lightning_rnnattn.callbacks.run import validates


class NTASGD(WeightAveraging):
    r"""Non-monotonically triggered averaged SGD (Merity et al. 2018, section 3), as the authors' code has it.

    Training goes on as it is; from the trigger on, the mean of the weights after all steps since then is what is
    validated and what checkpoints hold as the model. Averaging begins after the first validation whose loss is above
    the lowest one of those that lie more than ``nonmono`` validations back:

    .. math:: v_t > \min_{l < t - n} v_l

    (The paper's algorithm 1 looks at the last n instead.) With ``SGD`` as the optimizer this is torch's ``ASGD`` of
    ``lambd=0, t0=0``, except that torch leaves the first step out of the mean. Weights that training goes on from are
    in the checkpoint beside the averaged ones, so that a run resumes exactly.

    Args:
        monitor: the validation loss that triggers.
        nonmono: n.
    """

    def __init__(self, monitor: str = "val_loss", nonmono: int = 5) -> None:
        super().__init__(use_buffers=False)
        self.monitor = monitor
        self.nonmono = nonmono
        self.averages = False
        self._losses: list[float] = []

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After each step since the trigger."""
        return self.averages and step_idx is not None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the averaged weights."""
        if self._has_average:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the others again."""
        if self._has_average:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to average where the loss calls for it."""
        if not validates(trainer) or self.averages:
            return
        loss = float(trainer.callback_metrics[self.monitor])
        long_ago = self._losses[: -self.nonmono] if self.nonmono else self._losses
        self._losses.append(loss)
        if long_ago and loss > min(long_ago):
            self.averages = True
            rank_zero_info(f"NTASGD: averaging weights from step {trainer.global_step} on")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing yet: what is saved now must have the weights that training goes on from."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the averaged weights in the model."""
        if self._has_average:
            self._copy_average_to_current(pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go of the average, lest it be mixed with what the trainer evaluates after the fit."""
        self._average_model = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the averaged weights as the model's, beside the others."""
        if self._has_average:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take both out of the checkpoint."""
        if "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def state_dict(self) -> dict[str, Any]:
        """The losses so far, and whether they have triggered."""
        return {**super().state_dict(), "averages": self.averages, "losses": list(self._losses)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        super().load_state_dict(state_dict)
        self.averages, self._losses = state_dict["averages"], list(state_dict["losses"])

    @property
    def _has_average(self) -> bool:
        return self._average_model is not None and bool(self._average_model.n_averaged)
