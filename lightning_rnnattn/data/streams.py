"""Token ids on disk: written once, then mapped into memory, so that a corpus may be larger than memory."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from lightning_rnnattn.data.cache import cached
from lightning_rnnattn.data.corpus import Corpus, digest, file_hash
from lightning_rnnattn.data.files import Line
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers import Tokenizer, TokenizerSpec

TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

_FORMAT = 1  # part of every cache key: raise it when what is written for the same input changes
_BATCH_CHARS = 1 << 18  # HF needs some hundred bytes for each token while it encodes
_QUIET_SIZE = 4 << 20  # a smaller corpus is read before a progress bar would help


def train_tokenizer(spec: TokenizerSpec, corpus: Corpus, cache_dir: Path, *, of_lines: bool = False) -> Tokenizer:
    """The tokenizer of ``spec`` for ``corpus``, from the cache where the same was trained before.

    Args:
        spec: how it is made.
        corpus: what it is trained on.
        cache_dir: where it is kept.
        of_lines: whether it is to encode single lines: trained on lines without their newlines, and with a token that
            ends them.
    """
    key = digest("tokenizer", _FORMAT, spec.to_spec(), corpus.fingerprint(), *["lines"] * of_lines)

    def build(path: Path) -> None:
        with _watched(corpus, "training the tokenizer") as lines:
            if of_lines:
                tokenizer = spec.train(line.text.removesuffix("\n") for line in lines).with_eos()
            else:
                tokenizer = spec.train(line.text for line in lines)
            path.write_text(tokenizer.to_str(), encoding="utf-8")

    return Tokenizer.from_str(cached(cache_dir / f"tokenizer-{key}.json", build).read_text(encoding="utf-8"))


def token_array(corpus: Corpus, tokenizer: Tokenizer, cache_dir: Path, end: int | None = None) -> TokenArray:
    """The token ids of ``corpus`` as an array mapped from disk, from the cache where the same was encoded before.

    Args:
        corpus: the text.
        tokenizer: what it is encoded by.
        cache_dir: where the array is kept.
        end: the id that stands for each newline, and for nothing else; None leaves newlines to the tokenizer.

    Returns:
        (N,) of uint16, or uint32 for a vocabulary of more than 65,536.

    Raises:
        UserError: if the text cannot be read, or has what the tokenizer does not know: with file and line.
    """
    ends = () if end is None else (end,)
    key = digest("tokens", _FORMAT, tokenizer.to_str(), corpus.fingerprint(), *ends)

    def build(path: Path) -> None:
        with _watched(corpus, "encoding") as lines, path.open("wb") as file:
            _write(file, (_encode(batch, tokenizer, end) for batch in _batches(lines)), tokenizer.vocab_size)

    path = cached(cache_dir / f"tokens-{key}.npy", build)
    try:
        array: TokenArray = np.load(path, mmap_mode="r")
    except ValueError as error:
        raise UserError(f"{path}: the cached file is damaged ({error}): delete it") from error
    return array


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    length = 0
    for line in lines:
        batch.append(line)
        length += len(line.text)
        if length >= _BATCH_CHARS:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _encode(lines: list[Line], tokenizer: Tokenizer, end: int | None) -> list[list[int]]:
    texts = [line.text if end is None else line.text.removesuffix("\n") for line in lines]
    try:
        rows = tokenizer.encode_batch(texts)
    except UserError:
        for line, text in zip(lines, texts, strict=True):
            try:
                tokenizer.encode(text)
            except UserError as error:
                raise UserError(f"{line.source}:{line.number}: {error}") from error
        raise
    if end is not None:
        for row, line in zip(rows, lines, strict=True):
            if end in row:
                raise UserError(
                    f"{line.source}:{line.number}: the text has what stands for the end of a line (`<eos>`"
                    " or the like): remove it"
                )
            if line.text.endswith("\n"):
                row.append(end)
    return rows


def _write(file: IO[bytes], batches: Iterator[list[list[int]]], vocab_size: int) -> None:
    """Write an .npy file whose length is known at the end only: its header has room for any."""
    dtype = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)

    def header(length: int) -> None:
        fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, fields)

    # Through write, not through the map: a full disk is then an OSError and not a SIGBUS.
    header(0)
    length = 0
    for ids in batches:
        count = sum(map(len, ids))
        file.write(np.fromiter(chain.from_iterable(ids), dtype, count).tobytes())
        length += count
    file.seek(0)
    header(length)


@contextmanager
def _watched(corpus: Corpus, what: str) -> Iterator[Iterator[Line]]:
    """The lines of ``corpus``, with a progress bar on a terminal; a file that changes meanwhile is an error."""
    before = corpus.fingerprint()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal or corpus.size < _QUIET_SIZE) as bar:
        task = bar.add_task(f"{what} {corpus.name}", total=corpus.size)

        def lines() -> Iterator[Line]:
            shown = 0
            for line in corpus.lines():
                if line.position >= shown:  # an update costs more than a line
                    bar.update(task, completed=line.position)
                    shown = line.position + corpus.size // 200
                yield line

        yield lines()
    file_hash.cache_clear()  # now for the content itself, whatever size and time say
    if corpus.fingerprint() != before:
        raise UserError(f"{corpus.name}: the text changed while it was being read: start again when it is complete")
