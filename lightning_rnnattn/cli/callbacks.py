"""Which callbacks a command of Lightning's runs with, beside those that the user lists."""

import logging
import os
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ProgressBar

from lightning_rnnattn.callbacks import (
    FiniteLoss,
    MetricsHistory,
    NextSteps,
    PredictionWriter,
    RecordWriter,
    RunProgress,
)
from lightning_rnnattn.callbacks.run_record import RunRecord
from lightning_rnnattn.cli.processes import StartedProcesses
from lightning_rnnattn.data.examples import ExampleDataModule

BY_DEFAULT = [{"class_path": name} for name in ("BestCheckpoint", "LastCheckpoint", "Throughput", "MetricsPlot")]
"""Those of a `fit` whose configuration lists none."""


def classes(callbacks: list[Namespace] | None) -> list[type]:
    """The classes of parsed callbacks."""
    return [resolve_name(callback.class_path) for callback in callbacks or []]


def always(command: str, typed: str, config: Any) -> list[Callback]:
    """What every run has, whatever the user lists: a record, a progress bar, a guard, a writer.

    Args:
        command: the subcommand.
        typed: what the user typed, after the program's name.
        config: the parsed options of the subcommand; with ``--quiet`` those of the trainer change.
    """
    listed = classes(config.trainer.callbacks)
    added: list[Callback] = [StartedProcesses(), RunRecord(typed)]
    if command == "fit":
        added += [kind() for kind in (FiniteLoss, MetricsHistory) if kind not in listed]
    if command == "predict":
        data = resolve_name(config.data.class_path)
        writer = RecordWriter if issubclass(data, ExampleDataModule) else PredictionWriter
        added.append(writer(config.output))
    if config.quiet:
        _hush(config.trainer)
    elif config.trainer.enable_progress_bar is not False:
        added += [] if any(issubclass(each, ProgressBar) for each in listed) else [RunProgress()]
    return added


def _hush(trainer: Any) -> None:
    trainer.enable_progress_bar = trainer.enable_model_summary = False
    given = trainer.callbacks or []
    trainer.callbacks = [callback for callback in given if resolve_name(callback.class_path) is not NextSteps]
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # What rich, W&B and processes that are started ask for.
    os.environ.update(TTY_COMPATIBLE="0", WANDB_SILENT="true")
