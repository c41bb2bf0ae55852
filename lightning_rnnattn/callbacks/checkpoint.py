"""What the two checkpoint callbacks share."""

import os
import shutil
from pathlib import Path
from typing import Any
from weakref import proxy

from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_rnnattn.callbacks.run import run_dir


class RunCheckpoint(ModelCheckpoint):
    """A `ModelCheckpoint` that lives in the run's own folder and replaces its file in one step."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder: the one given, or ``checkpoints`` in the run's folder."""
        if self.dirpath is None:
            self.dirpath = str(run_dir(trainer) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the resumed run's paths and scores; `ModelCheckpoint` drops those of another folder."""
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        # Lightning writes into the system's temporary folder and moves the file here. Across file systems that is a
        # copy: a process killed during it would leave half a file in place of the good one before.
        local = _is_local_file_protocol(filepath)
        partial = str(Path(filepath).with_name(f".{Path(filepath).name}.partial")) if local else filepath
        trainer.save_checkpoint(partial, self.save_weights_only)
        if local:
            if trainer.is_global_zero:
                if os.path.isdir(filepath):  # sharded checkpoints are folders, and a folder cannot replace another
                    shutil.rmtree(filepath)
                os.replace(partial, filepath)
            trainer.strategy.barrier("RunCheckpoint")
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))
