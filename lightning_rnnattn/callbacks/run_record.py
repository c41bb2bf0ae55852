"""What a run was and what came of it, in one file that a machine can read."""

import json
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

import lightning_rnnattn
from lightning_rnnattn.callbacks.best_checkpoint import BestCheckpoint
from lightning_rnnattn.callbacks.run import RunCallback, replacing, validates, writes

FILENAME = "run.json"


class RunRecord(RunCallback):
    """Keep ``run.json`` in the run's folder: what `lightning_rnnattn ledger` makes its table from.

    It has the command, and those of the runs that it goes on with, the commit of this package, seed, hardware, number
    of parameters, steps and seconds (those of the runs before included), and the metrics of the validation that
    `BestCheckpoint` thought best. A later ``validate`` or ``test`` of a checkpoint in the run's ``checkpoints`` is
    added to it, with its command.

    Args:
        command: what the user typed, after the program's name.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self._earlier: list[str] = []  # commands of the runs that this one goes on with
        self._seconds = 0.0  # of those runs
        self._started = 0.0
        self._best: dict[str, float] = {}
        self._record: dict[str, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the record."""
        self._started = time.monotonic()
        self._record = {
            "command": self.command,
            "continues": self._earlier,
            "version": lightning_rnnattn.__version__,
            "commit": _commit(),
            "seed": os.environ.get("PL_GLOBAL_SEED"),
            "hardware": _hardware(trainer),
            "torch": torch.__version__,
            "parameters": sum(p.numel() for p in pl_module.parameters()),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "evaluations": [],
        }
        self._write(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the best validation of a fit, or the one of ``validate``."""
        if validates(trainer):
            if any(_is_to_be_kept(callback, trainer) for callback in trainer.checkpoint_callbacks):
                self._best = _metrics(trainer, "val_")
            self._write(trainer)
        elif trainer.state.fn == "validate":
            self._add_evaluation(trainer, "val_")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add a test to the record of the run that the checkpoint is of."""
        self._add_evaluation(trainer, "test_")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the record."""
        self._write(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the record of a run that was interrupted, too."""
        if self._record:
            self._write(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What was typed, how long the run has taken so far, and its best validation."""
        return {"commands": [*self._earlier, self.command], "seconds": self._spent(), "best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self._earlier = state_dict.get("commands", [])  # the first checkpoints had none
        self._seconds, self._best = state_dict["seconds"], state_dict["best"]

    def _spent(self) -> float:
        return self._seconds + (time.monotonic() - self._started if self._started else 0.0)

    def _write(self, trainer: Trainer) -> None:
        self._record |= {
            "steps": trainer.global_step,
            "seconds": round(self._spent(), 3),
            "best": self._best,
        }
        if writes(trainer):
            _save(self.folder / FILENAME, self._record)

    def _add_evaluation(self, trainer: Trainer, prefix: str) -> None:
        checkpoint = Path(trainer.ckpt_path or "")
        path = checkpoint.parent.parent / FILENAME
        if not writes(trainer) or checkpoint.parent.name != "checkpoints" or not path.is_file():
            return
        metrics = _metrics(trainer, prefix)
        new = {"command": self.command, "checkpoint": checkpoint.name, "commit": _commit(), "metrics": metrics}
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            others = [old for old in record["evaluations"] if old["command"] != self.command]
            _save(path, {**record, "evaluations": [*others, new]})
        except (OSError, ValueError, LookupError, TypeError) as error:  # another's run, say, or a damaged file
            rank_zero_warn(f"{path}: the result is not added: {type(error).__name__}: {error}")


def _is_to_be_kept(callback: Any, trainer: Trainer) -> bool:
    """Whether a callback is about to keep the model as the best; checkpoint callbacks come after all others."""
    if not isinstance(callback, BestCheckpoint) or callback.monitor not in trainer.callback_metrics:
        return False
    return callback.check_monitor_top_k(trainer, trainer.callback_metrics[callback.monitor])


def _metrics(trainer: Trainer, prefix: str) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(prefix)}


def _commit() -> str | None:
    """The commit of the checkout that this package lies in, with a + if files differ from it; None without one."""
    folder = Path(lightning_rnnattn.__file__).parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")


def _git(folder: Path, *args: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True, text=True).stdout.strip()


def _hardware(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    processes = f"{trainer.world_size} × " if trainer.world_size > 1 else ""
    if device.type == "cuda":
        return f"{processes}{torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"{processes}{threads} thread{'s' if threads > 1 else ''} of {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _save(path: Path, record: dict[str, Any]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
