"""What the two checkpoint callbacks share."""

import copy
import os
import shutil
from pathlib import Path
from typing import Any
from weakref import proxy

from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_rnnattn.callbacks.run import run_dir
from lightning_rnnattn.errors import UserError


class RunCheckpoint(ModelCheckpoint):
    """A `ModelCheckpoint` that lives in the run's own folder and replaces its file in one step.

    Attributes:
        failed: whether a file could not be written (a full disk): there is no use in trying again.
    """

    failed = False
    _made: dict[str, Any] | None = None  # what it was before its first run
    _folder = ""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder: the one given, or ``checkpoints`` in the run's folder. Another run begins with no files."""
        folder = str(run_dir(trainer) / "checkpoints")
        if stage == "fit":
            if self._made is None:
                self._made = copy.deepcopy(vars(self))
            elif folder != self._folder:
                vars(self).update(copy.deepcopy(self._made))
            self._folder = folder
        if self.dirpath is None:
            self.dirpath = folder
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the resumed run's paths and scores; `ModelCheckpoint` drops those of another folder."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        # Lightning writes into the system's temporary folder and moves the file here. Across file systems that is a
        # copy: a process killed during it would leave half a file in place of the good one before.
        local = _is_local_file_protocol(filepath)
        partial = str(Path(filepath).with_name(f".{Path(filepath).name}.partial")) if local else filepath
        try:
            trainer.save_checkpoint(partial, self.save_weights_only)
            if local and trainer.is_global_zero:
                _flush(partial)
        except OSError as error:
            self.failed = True
            Path(partial).unlink(missing_ok=True)
            raise UserError(
                f"{filepath}: the checkpoint cannot be written ({error.strerror or error}): free some space and go on"
                " with --ckpt_path last, which is the one before"
            ) from error
        if local:
            if trainer.is_global_zero:
                if os.path.isdir(filepath):  # sharded checkpoints are folders, and a folder cannot replace another
                    shutil.rmtree(filepath)
                self.before_replacing(Path(filepath))
                os.replace(partial, filepath)
            trainer.strategy.barrier("RunCheckpoint")
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    def before_replacing(self, path: Path) -> None:
        """Called on rank zero, before a new file takes the place of the one at ``path``."""


def _flush(path: str) -> None:
    """Waits until a file is on the disk: else the rename can get there first, and a power cut leaves an empty file."""
    if os.path.isdir(path):
        return
    with open(path, "rb") as file:
        os.fsync(file.fileno())
