"""Predictions of separate examples, a line for each."""

import json
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.spool import SpoolingWriter


class RecordWriter(SpoolingWriter):
    """Write what ``predict`` gives: a line for each example, in the order in which they were read.

    Where the output's name ends in ``.jsonl`` a line is the JSON of all that is known; else it is the plain ``text``.

    Protocol: ``predict_step`` gives a list of dicts that JSON can hold, each with its ``index`` in the order of the
    input, and ``text``.

    Args:
        output: the file to write.
    """

    def spool(self, file: IO[bytes], trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        """For each row its index, and what will be written."""
        for row in outputs:
            line = json.dumps(row, ensure_ascii=False) if self.output.suffix == ".jsonl" else row["text"]
            file.write(f"{row['index']}\t{' '.join(line.splitlines())}\n".encode())

    def join(self, spools: list[Path], output: Path) -> None:
        """The lines in the order of their indices."""
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
