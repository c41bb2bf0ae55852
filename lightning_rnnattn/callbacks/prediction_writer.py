"""Predictions as a file of JSON lines."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_rnnattn.callbacks.run import replacing

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


class PredictionWriter(Callback):
    """Write what ``predict`` gives: a line of JSON for each document, in the order in which they were read.

    A line has ``document`` (its name), ``num_tokens``, ``nats`` (minus the sum of the log-probabilities),
    ``perplexity`` (e^(nats / num_tokens), null for a document without tokens), ``tokens`` (the text of each), ``ids``
    and ``log_probs`` (natural logarithms). With a tokenizer of bytes, a token that is a part of a character has no text
    of its own (U+FFFD stands for it): ``ids`` can be decoded together.

    Every process spools its chunks to disk as they come, beside the output, and rank zero joins them at the end: memory
    holds one batch and a few numbers per chunk, however long the documents are. The folder must be one that all ranks
    see. The output appears in one step when it is complete.

    Protocol: ``predict_step`` gives a list with a dict for each row of the batch that has a document: ``document`` (its
    name), ``tokens`` (ids, written as text where the module has a ``tokenizer`` with ``tokens(ids)``) and
    ``log_probs``. Documents are dealt to the processes in turn; where a batch has ``is_first`` False, its rows go on
    with those of the batch before.

    Args:
        output: the file to write.
    """

    # Not a BasePredictionWriter: that one asks the loader for the indices of its samples, which streams do not have.

    def __init__(self, output: str = "predictions.jsonl") -> None:
        self.output = Path(output)
        self._spool: IO[bytes] | None = None
        self._documents = 0  # begun by this process before the rows of the current batch
        self._rows = 0
        self._arrivals = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open this rank's spool."""
        self._documents = self._rows = self._arrivals = 0
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
        if getattr(batch, "is_first", True):
            self._documents += self._rows
        self._rows = len(outputs)
        tokenizer: Any = getattr(pl_module, "tokenizer", None)
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
                self._spool.write(json.dumps(part, ensure_ascii=False).encode() + b"\n")
            self._arrivals += 1

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the spools of all ranks."""
        self._close()
        trainer.strategy.barrier("PredictionWriter")
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
