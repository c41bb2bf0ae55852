"""``metrics.csv`` of a run that goes on."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.callbacks.run import writes

KEY = "metrics_csv"


class MetricsHistory(Callback):
    """Let the ``metrics.csv`` of a resumed run begin with what the run before had written up to the checkpoint.

    Rows past the checkpoint are left out, since their steps are made again: the file is that of a run that was never
    interrupted. Every checkpoint says how many rows there were, and has the one that is about to be written.

    Protocol: none; it does nothing where there is no CSVLogger.
    """

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write down what the logger holds back, and say how much that is."""
        logger = _csv_logger(trainer)
        if logger is None or not writes(trainer):
            return
        logger.save()
        path = Path(logger.experiment.metrics_file_path)
        rows = path.read_bytes().count(b"\n") - 1 if path.is_file() else 0
        checkpoint[KEY] = {"path": str(path), "rows": max(rows, 0), "next": _next_row(trainer)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Begin with those rows."""
        logger, saved = _csv_logger(trainer), checkpoint.get(KEY)
        if logger is None or saved is None or trainer.state.fn != "fit" or not writes(trainer):
            return
        path = Path(saved["path"])
        if not path.is_file() and saved["rows"]:
            rank_zero_warn(f"{path} is not there any more: the new metrics.csv begins where the run goes on")
            return
        rows: list[dict[str, Any]] = []
        if saved["rows"]:
            with path.open(newline="", encoding="utf-8") as file:
                rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
        following = [saved["next"]] if saved["next"] else []
        logger.experiment.metrics[:0] = [*rows[: saved["rows"]], *following]
        logger.save()


def _csv_logger(trainer: Trainer) -> CSVLogger | None:
    return next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)


def _next_row(trainer: Trainer) -> dict[str, float] | None:
    """What the training step that is just ending will log; Lightning does so after the callbacks have seen its end."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    connector = trainer._logger_connector
    if progress.processed == progress.completed or not connector.should_update_logs:
        return None
    metrics = {name: float(value) for name, value in connector.metrics["log"].items()}
    step = trainer.fit_loop.epoch_loop._batches_that_stepped
    return {**metrics, "epoch": trainer.current_epoch, "step": step} if metrics else None
