"""What the command line takes from a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.cli.config import WANDB_RUN
from lightning_rnnattn.cli.early import EarlyOptions
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.loggers import WandbRun
from lightning_rnnattn.modules import read_checkpoint
from lightning_rnnattn.modules.base import SequenceModule
from lightning_rnnattn.modules.checkpoint import shapes
from lightning_rnnattn.modules.checkpointed import Vocabulary, saved_vocabularies
from lightning_rnnattn.spec import recorded

SEARCHED = ("last", "best")
"""Values of `--ckpt_path` that stand for a file of an earlier run."""

REQUEUED = "hpc"
"""Lightning's value of `--ckpt_path` for what it saved before SLURM requeued the job."""


@dataclass(frozen=True)
class CheckpointSettings:
    """What a checkpoint says before anything is built.

    Attributes:
        defaults: the parser's defaults for `model` and `data`.
        vocabularies: what the ids that the weights were trained on mean, by name.
        weights: what a new run starts from (`--init_from`).
        shapes: those of the weights that are loaded once the model is built (`--ckpt_path`), by name.
    """

    defaults: dict[str, Any] = field(default_factory=dict)
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    weights: dict[str, Any] | None = None
    shapes: dict[str, torch.Size] | None = None

    @classmethod
    def of(cls, early: EarlyOptions) -> "CheckpointSettings":
        """Reads the checkpoint of `--ckpt_path` (to go on) or `--init_from` (to start anew from its weights).

        Raises:
            UserError: both are given, or the checkpoint cannot be read or trusted.
        """
        if early.ckpt_path and early.init_from:
            raise UserError("--ckpt_path goes on with a run, --init_from starts a new one: give one of them")
        if early.init_from:
            checkpoint = read_checkpoint(early.init_from)
            specs = _specs(checkpoint, model="hyper_parameters")
            specs.get("model", {}).get("init_args", {}).pop("lr_scheduler", None)  # made for the length of another run
            return cls(specs, saved_vocabularies(checkpoint), checkpoint["state_dict"])
        if early.ckpt_path and early.ckpt_path not in (*SEARCHED, REQUEUED):
            checkpoint = read_checkpoint(early.ckpt_path)
            specs = _specs(checkpoint, model="hyper_parameters", data="datamodule_hyper_parameters")
            return cls(specs, saved_vocabularies(checkpoint), shapes=shapes(checkpoint["state_dict"]))
        return cls()

    def check_data(self, data: Mapping[str, Any], typed: str) -> None:
        """Warns where data are to be read otherwise than the weights have learnt to.

        Args:
            data: the arguments of the data module.
            typed: what the user typed.
        """
        for name in self.vocabularies:
            if f"--data.{name}" in typed:
                rank_zero_warn(f"--data.{name} changes nothing: ids mean what the checkpoint's vocabulary says")
        known = self.defaults.get("data", {}).get("init_args", {})
        if known.get("lowercase") and data.get("lowercase") is False:
            rank_zero_warn("data.lowercase is false, but the checkpoint's model knows text in lower case")


def earlier_checkpoint(trainer: Trainer, module: SequenceModule, name: str, *, needed: bool) -> Path | None:
    """The newest `last` or `best` checkpoint of an earlier run of the same model.

    Lightning's own `last` looks into the folder of the *new* run (`version_1`), finds nothing there and silently starts
    anew. This looks at all runs that share a logger's `save_dir` and `name`, and into the `dirpath` of the checkpoint
    callbacks. Checkpoints of other models are passed over, and so, with a warning, are files that cannot be read or
    trusted: the one before takes their place.

    Args:
        trainer: of the run that is to go on.
        module: of that run.
        name: `last` or `best`.
        needed: whether there must be one.

    Returns:
        None where there is no checkpoint at all, and none is needed.

    Raises:
        UserError: there is none, or none fits; the message has what is wrong with the newest.
    """
    folders = [Path(logger.save_dir or trainer.default_root_dir) / str(logger.name or "") for logger in trainer.loggers]
    folders += [
        Path(given) for callback in trainer.checkpoint_callbacks if (given := getattr(callback, "dirpath", None))
    ]
    folders = list(dict.fromkeys(folders or [Path(trainer.default_root_dir)]))
    found = {path for folder in folders for path in folder.rglob(f"{name}*.ckpt")}
    reasons = []
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            reason = _unfit(module, path)
        except UserError as error:
            reason = str(error)
            rank_zero_warn(f"--ckpt_path {name} passes over {reason}")
        if reason is None:
            return path
        reasons.append(reason)
    if not found and not needed:
        return None
    where = " or ".join(map(str, folders))
    what = f"none of the {len(found)} fits this model" if found else "there is none of an earlier run"
    newest = f" (the newest is {reasons[0]})" if reasons else ""
    raise UserError(f"--ckpt_path {name}: {what} under {where}{newest}; leave it out to start anew")


def go_on_logging(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Lets W&B go on with the run that a checkpoint is of, unless an id was given."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbRun)]
    if loggers and (run_id := checkpoint.get(WANDB_RUN)):
        for logger in loggers:
            logger.go_on(run_id)


def load_weights(module: SequenceModule, weights: dict[str, Any], source: str) -> None:
    """Loads weights into a model.

    Args:
        module: the model.
        weights: its state.
        source: the option that names them, for messages.

    Raises:
        UserError: names or shapes differ; the message has the first ones.
    """
    if wrong := _misfits(module, weights):
        raise UserError(f"{source}: does not fit this {type(module).__name__}: {_differ(wrong)}")
    module.load_state_dict(weights)


def _unfit(module: SequenceModule, path: Path) -> str | None:
    """Why a run of the module cannot go on from a checkpoint, or None where it can."""
    checkpoint = read_checkpoint(path)
    own, other = module.hparams, checkpoint.get("hyper_parameters", {})
    # What a model is made of, its class included: scores of equal shapes are not the same model.
    fixed = [name for name in {**own, **other} if name not in module.changeable]
    wrong = [name.lstrip("_") for name in fixed if own.get(name) != other.get(name)]
    wrong = wrong or _misfits(module, checkpoint["state_dict"])
    return f"{path}: {_differ(wrong)}" if wrong else None


def _differ(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} {'differs' if len(names) == 1 else 'differ'}"


def _misfits(module: SequenceModule, weights: dict[str, Any]) -> list[str]:
    """The names of parameters and buffers that only one side has, or that have another shape."""
    own, other = shapes(module.state_dict()), shapes(weights)
    return [name for name in own | other if own.get(name) != other.get(name)]


def _specs(checkpoint: dict[str, Any], **keys: str) -> dict[str, Any]:
    specs = {}
    for name, key in keys.items():
        if made := recorded(checkpoint.get(key, {})):
            specs[name] = made
    return specs
