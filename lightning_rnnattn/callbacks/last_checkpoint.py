"""The true last checkpoint of a run."""

import os
import signal
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.types import STEP_OUTPUT

from lightning_rnnattn.callbacks.checkpoint import RunCheckpoint
from lightning_rnnattn.callbacks.run import go_behind_others, validates


class LastCheckpoint(RunCheckpoint):
    """Keep the newest state of a run as ``checkpoints/last.ckpt`` of its folder: what ``--ckpt_path`` resumes from.

    It is saved after every validation and epoch, at the interval asked for, when training ends, and when it is
    interrupted (SIGTERM, Ctrl-C). Always between two optimizer steps, so that the resumed run goes on exactly where
    this one stopped: after an error in the middle of a step the file of the last whole one is left as it was, and the
    first Ctrl-C (on one process) waits for the step to end; a second one does not wait.

    The file before stays beside it as ``last-previous.ckpt``, for the day on which the newest turns out to be damaged.

    `ModelCheckpoint(save_last=True)` with a ``monitor`` is something else: a copy of the best. One thing Lightning does
    not take up again: ``ReduceLROnPlateau`` misses the decision at the end of the epoch in which a run is resumed.

    Args:
        every_n_train_steps: also save whenever so many optimizer steps were made.
        train_time_interval: also save when so much time has passed; not together with ``every_n_train_steps``.
        dirpath: folder of the checkpoint; None means ``checkpoints`` in the run's folder.
    """

    def __init__(
        self,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        dirpath: str | None = None,
    ) -> None:
        super().__init__(
            dirpath=dirpath,
            every_n_train_steps=every_n_train_steps,
            train_time_interval=train_time_interval,
            save_top_k=0,
            save_last=True,
            save_on_exception=True,
            enable_version_counter=False,
        )
        self._interrupted = False
        self._terminated = False
        self._began = False
        self._before_validation = False  # whether what is being saved has its validation still to come
        self._behind_epoch = False  # whether it has a whole epoch behind it

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Go behind the other callbacks: what they have just learnt (the best score, say) belongs in the file."""
        super().setup(trainer, pl_module, stage)
        go_behind_others(trainer, self)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C, and SIGTERM where there are several processes.

        Lightning's own handler of SIGTERM broadcasts, wherever in a step the signal comes: other processes may be in
        another collective.
        """
        super().on_train_start(trainer, pl_module)
        self._began = True
        if threading.current_thread() is not threading.main_thread():
            return
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self._on_terminate)
        elif signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_terminate(self, signum: int, frame: FrameType | None) -> None:
        self._terminated = True

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        self._interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rank_zero_info("\nStopping after this step; Ctrl-C again stops at once.")

    def _release_interrupt(self) -> None:
        if signal.getsignal(signal.SIGINT) == self._on_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Save at the interval, before a stop that comes in the middle of an epoch, and before an interruption."""
        if trainer.fit_loop._should_accumulate():
            return  # gradients that wait for more batches are in no checkpoint
        if _validation_follows(trainer):
            return  # saves when it starts: a run resumed from here would leave that validation out
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        # Lightning ends the epoch early when the run stops. A state saved there would skip the rest of the epoch when
        # it is resumed with more steps; this one goes on with the next batch.
        stops = 0 <= trainer.max_steps <= trainer.global_step or (
            trainer.should_stop and trainer.fit_loop._can_stop_early
        )
        self._stop(trainer, save=stops)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if it is time to, the step that the validation follows; a run resumed from there validates first."""
        if not validates(trainer):
            return
        self._before_validation = True
        # Lightning ends a run that has all its steps before it validates: from there, the last validation is missing.
        over = 0 <= trainer.max_steps <= trainer.global_step
        try:
            if not over:
                super().on_train_batch_end(trainer, pl_module, None, None, 0)
            self._stop(trainer)
        finally:
            self._before_validation = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Make Lightning resume where it would not: before a validation, and behind an epoch that none ended."""
        if self._behind_epoch:
            # Where steps bound the run, Lightning takes such an epoch for unfinished, and makes a step too many: here
            # the next epoch is about to begin.
            loops = checkpoint["loops"]["fit_loop"]
            for progress in loops["epoch_progress"].values():
                progress["completed"] = progress["processed"]
            batches = loops["epoch_loop.batch_progress"]
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False
        if self._before_validation:
            # It does so for a run that stopped in its validation, and takes a batch that was begun for the sign of it.
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            done = progress["total"]["completed"]
            progress["total"] = {"ready": done + 1, "started": done + 1, "processed": done, "completed": done}
            progress["current"] = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
            progress["is_last_batch"] = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation: the same step may have been saved before it, without what it changed."""
        if validates(trainer) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save(trainer)
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after an epoch that no validation ended, even if its last step was saved: its end may change a mean."""
        whole = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        self._behind_epoch = whole and not _validation_follows(trainer)
        if self._behind_epoch:
            self._last_global_step_saved = 0
        if not self._should_skip_saving_checkpoint(trainer):
            self._save(trainer)
        self._behind_epoch = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last steps, if nothing has saved them."""
        self._release_interrupt()
        if not self._should_skip_saving_checkpoint(trainer):
            self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where training stopped, if it stopped between two steps, and say how to go on."""
        self._release_interrupt()
        if trainer.state.fn != "fit":
            return
        batches = trainer.fit_loop.epoch_loop.batch_progress.current
        # One rank's own error finds the others elsewhere, and saving is collective; SIGTERM reaches all at one step.
        together = trainer.world_size == 1 or isinstance(exception, SIGTERMException)
        between_steps = batches.ready == batches.completed
        validating = validates(trainer) and bool(trainer.validating)
        # During a validation averaged weights stand where those of training should.
        averaged = validating and any(isinstance(c, WeightAveraging) for c in trainer.callbacks)  # type: ignore[attr-defined]
        whole = together and between_steps and not averaged and not self.failed
        if whole and self._should_save_on_exception(trainer):
            self._before_validation = validating
            self._save(trainer)
            self._before_validation = False
        if self.last_model_path and self._began:
            rank_zero_info(f"Interrupted at step {trainer.global_step}. Resume with --ckpt_path {self.last_model_path}")

    def before_replacing(self, path: Path) -> None:
        """Keep the file before; where a file system has no hard links, there is none."""
        previous = path.with_name(f"{path.stem}-previous{path.suffix}")
        if path.is_file():
            previous.unlink(missing_ok=True)
            with suppress(OSError):
                os.link(path, previous)

    def _stop(self, trainer: Trainer, save: bool = False) -> None:
        """Saves, if this is to be the last step or ``save`` is set, and ends the run if it was interrupted."""
        # Each process may have got the signal, or one alone; all come by here after the same step.
        terminated = trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(self._terminated, all=False)
        if (save or terminated or self._interrupted) and not self._should_skip_saving_checkpoint(trainer):
            self._save(trainer)
        if terminated:
            raise SIGTERMException
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def _save(self, trainer: Trainer) -> None:
        self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))


def _validation_follows(trainer: Trainer) -> bool:
    """Whether the training step that has just ended is followed by a validation."""
    loop = trainer.fit_loop.epoch_loop
    return not loop.val_loop.skip and loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
