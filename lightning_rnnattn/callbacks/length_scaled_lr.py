"""A learning rate that follows the length of batches."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from lightning_rnnattn.callbacks.run import require


class LengthScaledLR(Callback):
    r"""Scale each step's learning rate by its batch's length (Merity et al. 2018, section 4.1).

    .. math:: \eta \cdot l / s

    The loss is a mean over tokens: without it, short batches would count for too much. The rate is scaled for the step
    alone: schedules, loggers and checkpoints see it as it was.

    Protocol: the training batches have ``tokens`` (B, l), and their loader has the usual length, ``seq_len``.

    Raises:
        UserError: before the first step, if they have not.
    """

    def __init__(self) -> None:
        self._factor = 1.0
        self._rates: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the optimizers' steps, if the loader has a usual length; it is not there yet when the fit starts."""
        require(self, trainer.train_dataloader, "seq_len")
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(self._scale)
            optimizer.register_step_post_hook(self._restore)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measure the batch."""
        require(self, batch, "tokens")
        self._factor = batch.tokens.shape[1] / trainer.train_dataloader.seq_len  # type: ignore[union-attr]

    def _scale(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = self._factor * group["lr"]

    def _restore(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
