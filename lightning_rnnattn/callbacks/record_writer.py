"""Predictions of separate examples, a line for each."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.html import HEAD, TAIL, html_row
from lightning_rnnattn.callbacks.spool import SpoolingWriter


class _Format(NamedTuple):
    """How a file of records is written: a line for each, and what stands before the first and after the last."""

    line: Callable[[Mapping[str, Any]], str]
    head: str = ""
    tail: str = ""


_FORMATS = {
    ".jsonl": _Format(lambda row: json.dumps(row, ensure_ascii=False)),
    ".html": _Format(html_row, HEAD, TAIL),
}
_PLAIN = _Format(lambda row: " ".join(row["text"].splitlines()))


class RecordWriter(SpoolingWriter):
    """Write what ``predict`` gives: a line for each example, in the order in which they were read.

    Where the output's name ends in ``.jsonl`` a line is the JSON of all that is known; where it ends in ``.html`` the
    file is a page to read, with what the model looked at shaded; else a line is the plain ``text``.

    Protocol: ``predict_step`` gives a list of dicts that JSON can hold, each with its ``index`` in the order of the
    input, and ``text``; for what else a page shows, see `lightning_rnnattn.callbacks.html.html_row`.

    Args:
        output: the file to write.
    """

    def spool(self, file: IO[bytes], trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        """For each row its index, and what will be written."""
        for row in outputs:
            file.write(f"{row['index']}\t{self._format.line(row)}\n".encode())

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
                out.write(self._format.head.encode())
                for _, number, offset in sorted(places):
                    files[number].seek(offset)
                    out.write(files[number].readline().split(b"\t", 1)[1])
                out.write(self._format.tail.encode())
        finally:
            for file in files:
                file.close()

    @property
    def _format(self) -> _Format:
        return _FORMATS.get(self.output.suffix.lower(), _PLAIN)
