"""What to do when a run is done."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from string import Formatter

from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.best_checkpoint import BestCheckpoint
from lightning_rnnattn.callbacks.last_checkpoint import LastCheckpoint
from lightning_rnnattn.callbacks.run import RunCallback, go_behind_others, writes

_COMMANDS = (
    "lightning_rnnattn test --ckpt_path {best}",
    "lightning_rnnattn fit --config {config} --ckpt_path {last} {further}",
)


class NextSteps(RunCallback):
    """Print, when the fit has ended, where everything is, and commands to go on with, ready to be copied.

    Protocol: none. It asks the trainer's other callbacks what they wrote: checkpoints, and the ``path`` of any that has
    such an attribute.

    Args:
        commands: lines to print. They may name ``{best}`` and ``{last}`` (checkpoints), ``{config}`` (the run's
            ``config.yaml``), ``{folder}``, and ``{further}`` (the options that let it go on for as long again, its
            schedule, too; none where the run stopped itself). A line that names what a run does not have is left out.
    """

    def __init__(self, commands: Sequence[str] = _COMMANDS) -> None:
        self.commands = list(commands)
        self._done = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Go behind the progress bar, which would break long lines while it is on the screen."""
        super().setup(trainer, pl_module, stage)
        go_behind_others(trainer, self)
        self._done = False

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the fit came to its end."""
        self._done = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print it."""
        if not self._done or not writes(trainer):
            return
        checkpoints = self._checkpoints(trainer)
        written = {"metrics": self.folder / "metrics.csv", **self._written(trainer)}
        names = {
            **{name: _shown(path) for name, path in checkpoints.items()},
            "folder": _shown(self.folder),
        }
        if (further := _further(trainer, pl_module)) and not trainer.should_stop:
            names["further"] = further
        if (self.folder / "config.yaml").is_file():
            names["config"] = _shown(self.folder / "config.yaml")
        files = {**{f"{name} checkpoint": path for name, path in checkpoints.items()}, **written}
        lines = [f"  {name:<16} {_shown(path)}" for name, path in files.items() if path.exists()]
        commands = [f"  {command.format(**names)}" for command in self.commands if _fields(command) <= names.keys()]
        more = ["", "Try next:", *commands] if commands else []
        print("\n".join(["", "The run is done:", *lines, *more, ""]), flush=True)

    @staticmethod
    def _checkpoints(trainer: Trainer) -> dict[str, Path]:
        paths = {}
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint):
                paths["best"] = callback.best_model_path
            elif isinstance(callback, LastCheckpoint):
                paths["last"] = callback.last_model_path
        return {name: Path(path) for name, path in paths.items() if path and os.path.exists(path)}

    def _written(self, trainer: Trainer) -> dict[str, Path]:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        paths = {_name(callback): getattr(callback, "path", None) for callback in callbacks}
        return {name: path for name, path in paths.items() if isinstance(path, Path)}


def _further(trainer: Trainer, pl_module: LightningModule) -> str:
    """What a fit that goes on with this one takes, to make as many steps again."""
    steps, epochs = 2 * trainer.global_step, 2 * trainer.current_epoch
    options = {}
    if trainer.max_steps >= 0:
        options["trainer.max_steps"] = steps
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs < epochs:
        options["trainer.max_epochs"] = epochs
    schedule = pl_module.hparams.get("lr_scheduler")
    if isinstance(schedule, dict) and "num_steps" in schedule.get("init_args", {}):
        options["model.lr_scheduler.num_steps"] = steps
    return " ".join(f"--{name} {number}" for name, number in options.items())


def _name(callback: object) -> str:
    """`MetricsPlot` as "metrics plot"."""
    name = type(callback).__name__
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def _shown(path: Path) -> str:
    """A path as a user would type it: short, and quoted where it must be."""
    path = path.absolute()
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _fields(command: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(command) if name}
