"""Predictions of separate examples, a line for each."""

import json
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_rnnattn.callbacks.run import replacing


class RecordWriter(Callback):
    """Write what ``predict`` gives: a line for each example, in the order in which they were read.

    Where the output's name ends in ``.jsonl`` a line is the JSON of all that is known; else it is the plain ``text``.

    Every process spools its lines to disk as they come, beside the output, and rank zero joins them at the end: memory
    holds one batch and two numbers per example. The folder must be one that all ranks see. The output appears in one
    step when it is complete.

    Protocol: ``predict_step`` gives a list of dicts that JSON can hold, each with its ``index`` in the order of the
    input, and ``text``.

    Args:
        output: the file to write.
    """

    # Not a BasePredictionWriter: that one asks for the indices of a DataLoader's sampler.

    def __init__(self, output: str = "predictions.jsonl") -> None:
        self.output = Path(output)
        self._spool: IO[bytes] | None = None

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
        """Spool the rows of a batch: the index, then what will be written."""
        assert self._spool is not None
        for row in outputs:
            line = json.dumps(row, ensure_ascii=False) if self.output.suffix == ".jsonl" else row["text"]
            self._spool.write(f"{row['index']}\t{' '.join(line.splitlines())}\n".encode())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the spools of all ranks."""
        self._close()
        trainer.strategy.barrier("RecordWriter")
        if trainer.is_global_zero:
            spools = [self._spool_path(rank) for rank in range(trainer.world_size)]
            with replacing(self.output) as partial:
                _join(spools, partial)
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


def _join(spools: list[Path], output: Path) -> None:
    files = [spool.open("rb") for spool in spools]
    try:
        places = []
        for number, file in enumerate(files):
            offset = 0
            for line in file:
                places.append((int(line.split(b"\t", 1)[0]), number, offset))
                offset += len(line)
        with output.open("wb") as out:
            for _, number, offset in sorted(places):
                files[number].seek(offset)
                out.write(files[number].readline().split(b"\t", 1)[1])
    finally:
        for file in files:
            file.close()
