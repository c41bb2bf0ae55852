"""Predictions on their way to a file, when several processes make them."""

from abc import abstractmethod
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_rnnattn.callbacks.run import replacing


class SpoolingWriter(Callback):
    """Write what ``predict`` gives to one file; a subclass says what each process spools, and how that is joined.

    Every process spools to disk as predictions come, beside the output, and rank zero joins the spools at the end:
    memory holds one batch and a few numbers for each prediction. The folder must be one that all ranks see. The output
    appears in one step when it is complete.

    Args:
        output: the file to write.
    """

    # Not a BasePredictionWriter: that one asks for the indices of a DataLoader's sampler.

    def __init__(self, output: str = "predictions.jsonl") -> None:
        self.output = Path(output).resolve()  # what a link points at, not the link
        self._spool: IO[bytes] | None = None

    @abstractmethod
    def spool(self, file: IO[bytes], trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        """Writes what ``predict_step`` returned for a batch to this process' spool."""

    @abstractmethod
    def join(self, spools: list[Path], output: Path) -> None:
        """Makes the output of the spools of all ranks, by rank."""

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this rank's spool."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        self._spool = self._spool_path(trainer.global_rank).open("wb")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Spool the rows of a batch."""
        assert self._spool is not None
        self.spool(self._spool, trainer, pl_module, outputs, batch)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the spools of all ranks."""
        self._close()
        trainer.strategy.barrier(type(self).__name__)
        if trainer.is_global_zero:
            spools = [self._spool_path(rank) for rank in range(trainer.world_size)]
            with replacing(self.output) as partial:
                self.join(spools, partial)
            for spool in spools:
                spool.unlink()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no spool behind."""
        if self._spool is not None:
            self._close()
            self._spool_path(trainer.global_rank).unlink(missing_ok=True)

    def _close(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _spool_path(self, rank: int) -> Path:
        return self.output.with_name(f".{self.output.name}.rank{rank}")
