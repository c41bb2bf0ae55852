"""Predictions as a file of JSON lines."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.spool import SpoolingWriter

_LISTS = ("tokens", "ids", "log_probs")  # what a line has for each token; a chunk's lines in the spool


@dataclass(frozen=True, order=True)
class _Chunk:
    """Where the part of a document lies that one row of one batch gave; sorts into reading order."""

    index: int
    arrival: int
    document: str
    num_tokens: int
    nats: float
    file: Path
    offset: int


class PredictionWriter(SpoolingWriter):
    """Write what ``predict`` gives: a line of JSON for each document, in the order in which they were read.

    A line has ``document`` (its name), ``num_tokens``, ``nats`` (minus the sum of the log-probabilities),
    ``perplexity`` (e^(nats / num_tokens), null for a document without tokens), ``tokens`` (the text of each), ``ids``
    and ``log_probs`` (natural logarithms). With a tokenizer of bytes, a token that is a part of a character has no text
    of its own (U+FFFD stands for it): ``ids`` can be decoded together.

    Protocol: ``predict_step`` gives a list with a dict for each row of the batch that has a document: ``document`` (its
    name), ``tokens`` (ids, written as text where the module has a ``tokenizer`` with ``tokens(ids)``) and
    ``log_probs``. Documents are dealt to the processes in turn; where a batch has ``is_first`` False, its rows go on
    with those of the batch before.

    Args:
        output: the file to write.
    """

    def __init__(self, output: str = "predictions.jsonl") -> None:
        super().__init__(output)
        self._documents = 0  # begun by this process before the rows of the current batch
        self._rows = 0
        self._arrivals = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count, and open this rank's spool."""
        self._documents = self._rows = self._arrivals = 0
        super().on_predict_start(trainer, pl_module)

    def spool(self, file: IO[bytes], trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        """For each row a line that says where it belongs, and one for each of its lists."""
        if getattr(batch, "is_first", True):
            self._documents += self._rows
        self._rows = len(outputs)
        tokenizer: Any = getattr(module, "tokenizer", None)
        for place, row in enumerate(outputs, start=self._documents):
            header = {
                "index": place * trainer.world_size + trainer.global_rank,
                "arrival": self._arrivals,
                "document": row["document"],
                "num_tokens": len(row["log_probs"]),
                "nats": -math.fsum(row["log_probs"]),
            }
            lists = {
                "tokens": row["tokens"] if tokenizer is None else tokenizer.tokens(row["tokens"]),
                "ids": row["tokens"],
                "log_probs": [round(log_prob, 6) for log_prob in row["log_probs"]],
            }
            for part in (header, *(lists[key] for key in _LISTS)):
                file.write(json.dumps(part, ensure_ascii=False).encode() + b"\n")
            self._arrivals += 1

    def join(self, spools: list[Path], output: Path) -> None:
        """The chunks of each document, together."""
        _join(spools, output)


def _chunks(spool: Path) -> Iterator[_Chunk]:
    with spool.open("rb") as file:
        while header := file.readline():
            yield _Chunk(**json.loads(header), file=spool, offset=file.tell())
            for _ in _LISTS:
                file.readline()


def _join(spools: list[Path], output: Path) -> None:
    documents: dict[int, list[_Chunk]] = {}
    for chunk in sorted(chunk for spool in spools for chunk in _chunks(spool)):
        documents.setdefault(chunk.index, []).append(chunk)
    files = {spool: spool.open("rb") for spool in spools}
    try:
        with output.open("wb") as out:
            for chunks in documents.values():
                num_tokens = sum(chunk.num_tokens for chunk in chunks)
                nats = math.fsum(chunk.nats for chunk in chunks)
                head = {
                    "document": chunks[0].document,
                    "num_tokens": num_tokens,
                    "nats": round(nats, 6),
                    "perplexity": math.exp(nats / num_tokens) if num_tokens else None,
                }
                out.write(json.dumps(head, ensure_ascii=False).encode()[:-1])
                for line, key in enumerate(_LISTS):
                    out.write(f', "{key}": ['.encode())
                    separator = b""
                    for chunk in chunks:
                        items = _line(files[chunk.file], chunk.offset, line)[1:-2]  # without brackets and newline
                        if items:
                            out.write(separator + items)
                            separator = b", "
                    out.write(b"]")
                out.write(b"}\n")
    finally:
        for file in files.values():
            file.close()


def _line(file: IO[bytes], offset: int, number: int) -> bytes:
    file.seek(offset)
    for _ in range(number):
        file.readline()
    return file.readline()
