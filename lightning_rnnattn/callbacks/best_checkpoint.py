"""The best checkpoint of a run."""

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.callbacks.checkpoint import RunCheckpoint


class BestCheckpoint(RunCheckpoint):
    """Keep the checkpoint with the best value of a validation metric, as ``checkpoints/best.ckpt`` of the run's folder.

    It is judged after every validation, in the middle of an epoch too. When a run goes on in another folder, the score
    to beat comes along: a worse model never becomes the best one. Where a run begins anew in the folder of another, as
    it does without a logger, that one's best is kept as ``best-earlier.ckpt``.

    Protocol: the module logs ``monitor`` during validation.

    Args:
        monitor: the metric that judges.
        mode: ``"min"`` or ``"max"``: which values are better.
        dirpath: folder of the checkpoint; None means ``checkpoints`` in the run's folder.
        filename: name of the file, without ``.ckpt``; may contain metrics as in ``best-{val_loss:.2f}``.
        save_weights_only: leave out what only resuming needs (optimizer, schedulers, loops).
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        mode: str = "min",
        dirpath: str | None = None,
        filename: str = "best",
        save_weights_only: bool = False,
    ) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            save_weights_only=save_weights_only,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self._own: set[str] = set()  # files of this run, or of one that it goes on with

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the run's own file; see `RunCheckpoint.load_state_dict`."""
        super().load_state_dict(state_dict)
        self._own.add(self.best_model_path)

    def before_replacing(self, path: Path) -> None:
        """Keep the file of another run."""
        if str(path) not in self._own and path.is_file():
            os.replace(path, path.with_name(f"{path.stem}-earlier{path.suffix}"))
        self._own.add(str(path))

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn where the first validation is going to end the run, as nothing is called ``monitor``.

        No error: a module may log less, or nothing, while it is checked.
        """
        logged = sorted(trainer.callback_metrics)
        if logged and self.monitor not in logged:
            rank_zero_warn(f"BestCheckpoint: nothing logs monitor={self.monitor!r} so far, only {', '.join(logged)}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: what was not validated cannot be the best."""
