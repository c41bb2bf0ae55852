"""Progress bars on a terminal, a line now and then elsewhere."""

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console

from lightning_rnnattn.callbacks.run import validates


class RunProgress(RichProgressBar):
    """Show how far a run is, how fast it goes and how long it will take.

    On a terminal: Lightning's progress bars, whose end is that of the training where ``max_steps`` comes before the
    epoch's end, with the metrics that the module logs with ``prog_bar=True``, tokens a second (of `Throughput`), and
    the time that is left of the whole training. Elsewhere (a file, a batch system): a line after each validation.

    Protocol: none.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)
        self._plain = False
        self._began: tuple[float, float] | None = None  # when, and how much of the training was done then

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out whether there is a terminal."""
        super().setup(trainer, pl_module, stage)
        console = get_console()
        if not (console.is_terminal or console.is_jupyter):
            self.disable()
            self._plain = trainer.is_global_zero

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._began = time.monotonic(), self._done(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the new metrics."""
        super().on_validation_end(trainer, pl_module)
        if self._plain and validates(trainer):
            steps = f"/{trainer.max_steps}" if trainer.max_steps > 0 else ""
            # Of the training, what stands beside a bar; of the validation, everything.
            logged = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
            metrics = {**logged, **self.get_metrics(trainer, pl_module)}
            shown = (f"{name} {value if isinstance(value, str) else f'{value:.4g}'}" for name, value in metrics.items())
            print(f"step {trainer.global_step}{steps}", *shown, sep=" · ", flush=True)

    @property
    def total_train_batches(self) -> int | float:
        """Batches of the epoch, or up to the last step."""
        total = super().total_train_batches
        if self.trainer.max_steps < 0:
            return total
        begun = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        steps = self.trainer.max_steps - self.trainer.global_step
        return min(total, begun + steps * self.trainer.accumulate_grad_batches)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What stands beside the bar."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if (speed := metrics.pop("tokens_per_second", None)) is not None:
            metrics["tokens/s"] = f"{speed:,.0f}"
        if (left := self._left(trainer)) is not None:
            metrics["left"] = str(timedelta(seconds=round(left)))
        return metrics

    def _get_train_description(self, current_epoch: int) -> str:
        last = f"/{self.trainer.max_epochs}" if self.trainer.max_steps < 0 and self.trainer.max_epochs else ""
        return f"{f'Epoch {current_epoch + 1}{last}':{len(self.validation_description)}}"

    def _left(self, trainer: Trainer) -> float | None:
        """Seconds to the end of the training."""
        if self._began is None or trainer.state.fn != "fit":
            return None
        began, before = self._began
        done = self._done(trainer)
        return (time.monotonic() - began) * (1 - done) / (done - before) if done > before else None

    @staticmethod
    def _done(trainer: Trainer) -> float:
        """How much of the training is done, from 0 to 1, by steps or epochs, whichever end comes first."""
        by_steps = trainer.global_step / trainer.max_steps if trainer.max_steps > 0 else 0.0
        batches = trainer.num_training_batches
        if not trainer.max_epochs or trainer.max_epochs < 0 or not 0 < batches < float("inf"):
            return by_steps
        epochs = trainer.current_epoch + trainer.fit_loop.epoch_loop.batch_progress.current.ready / batches
        return min(1.0, max(by_steps, epochs / trainer.max_epochs))
