"""Loggers beside those of Lightning."""

import shutil
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only


class WandbRun(WandbLogger):
    """Weights & Biases, where a run is one run, whatever happens to it.

    What it does beyond `WandbLogger`: from the command line, the complete configuration is there once, nested as in
    YAML; a resumed run goes on as the same W&B run; the summary has the validation metrics of the best checkpoint,
    ``best.val_loss`` and so on; checkpoints are logged offline, too; and there is `log_html`.

    Args:
        offline: write the run's files only; ``wandb sync`` sends them later.
        **kwargs: of `WandbLogger`, and of ``wandb.init``.
    """

    def __init__(self, *, offline: bool = False, **kwargs: Any) -> None:
        # What the command line leaves out comes as None, and would take the place of the parent's `resume: allow`.
        for name in [name for name, value in kwargs.items() if value is None]:
            del kwargs[name]
        # The parent's own `offline` refuses `log_model`, although W&B keeps artifacts until they can be sent.
        if offline:
            kwargs["mode"] = "offline"
        super().__init__(**kwargs)
        # W&B's service keeps the working directory that it was started in, which may be an earlier run's.
        self._wandb_init["dir"] = str(Path(self.save_dir or ".").absolute())
        self._configured = False
        self._validated: dict[str, float] = {}

    def go_on(self, run_id: str) -> None:
        """Makes this the run of an id, unless one was given, or it has begun."""
        if self.version is None:
            self._id = self._wandb_init["id"] = run_id

    @rank_zero_only
    def log_config(self, path: Path) -> None:
        """Logs the configuration of the command line, a YAML file, as settings and as a file."""
        self.experiment.config.update(yaml.safe_load(path.read_text(encoding="utf-8")), allow_val_change=True)
        self._configured = True
        # Below a folder, since W&B keeps a config.yaml of its own.
        copy = Path(self.experiment.dir) / "run" / path.name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
        self.experiment.save(str(copy), base_path=self.experiment.dir, policy="now")

    def log_hyperparams(self, params: Any) -> None:
        """Logs what the model and the data were made from, where `log_config` has not done so."""
        if not self._configured:
            super().log_hyperparams(params)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Logs metrics."""
        super().log_metrics(metrics, step)
        if validated := {name: value for name, value in metrics.items() if name.startswith("val_")}:
            self._validated = validated

    @rank_zero_only
    def log_html(self, key: str, page: str, step: int | None = None) -> None:
        """Shows a page that needs no other file, as it is: W&B would add a style sheet from its server."""
        import wandb

        self.log_metrics({key: wandb.Html(page, inject=False)}, step)

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Notes the validation metrics of the best checkpoint; logs it, where that was asked for."""
        super().after_save_checkpoint(checkpoint_callback)
        self._note_best(checkpoint_callback)

    @rank_zero_only
    def _note_best(self, callback: ModelCheckpoint) -> None:
        if callback.monitor is not None and callback.current_score == callback.best_model_score:
            step = callback._last_global_step_saved
            self.experiment.summary["best"] = {**self._validated, "step": step}
