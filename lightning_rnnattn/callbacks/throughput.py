"""How fast a run goes, and whether it waits for data."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from lightning_rnnattn.callbacks.run import logs_now


class Throughput(Callback):
    """Log ``tokens_per_second``, ``samples_per_second`` and ``data_wait``; the first is in the progress bar, too.

    All are over the steps since they were last logged, without the time of validations and of saving checkpoints.
    Tokens and samples are those of all processes; ``data_wait`` is the share of time (0 to 1) from the end of a step
    until the next batch is on the device. Nothing waits for the device between two logs.

    Protocol: the module has ``num_tokens(batch)``, an int or a scalar tensor; without it, ``batch.mask`` says which
    tokens count, True for those that do. ``batch.counts`` says which samples count; without it, each row of the mask is
    one. What is not known is not logged.

    Args:
        every_n_steps: how often to log; None means the trainer's ``log_every_n_steps``.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        self.every_n_steps = every_n_steps
        self._restart()

    def _restart(self) -> None:
        self._totals: dict[str, Any] = {}
        self._busy = 0.0
        self._waited = 0.0
        self._step_started = 0.0
        self._step_ended: float | None = None  # None: what comes between the steps is not waiting for data

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting."""
        self._restart()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        self._step_started = time.perf_counter()
        if self._step_ended is not None:
            self._waited += self._step_started - self._step_ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """The step is made; log at the interval."""
        for name, count in _counts(pl_module, batch).items():
            self._totals[name] = self._totals.get(name, 0) + count
        logs = logs_now(trainer, self.every_n_steps)
        totals = {name: int(total) for name, total in self._totals.items()} if logs else {}  # waits for the device
        self._step_ended = time.perf_counter()
        self._busy += self._step_ended - self._step_started
        if logs:
            seconds = self._busy + self._waited
            for name, total in totals.items():
                rate = total * trainer.world_size / seconds
                pl_module.log(f"{name}_per_second", rate, prog_bar=name == "tokens", batch_size=1)
            pl_module.log("data_wait", self._waited / seconds, batch_size=1)
            self._totals, self._busy, self._waited = {}, 0.0, 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation is not waiting for data."""
        self._step_ended = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Nor is saving a checkpoint."""
        self._step_ended = None


def _counts(module: LightningModule, batch: Any) -> dict[str, Any]:
    """How many tokens and samples a batch has, where that is known."""
    mask, counts = getattr(batch, "mask", None), getattr(batch, "counts", None)
    found: dict[str, Any] = {}
    count: Any = getattr(module, "num_tokens", None)
    if count is not None:
        found["tokens"] = count(batch)
    elif mask is not None:
        found["tokens"] = mask.sum()
    if counts is not None:
        found["samples"] = counts.sum()
    elif mask is not None:
        found["samples"] = len(mask)
    return found
