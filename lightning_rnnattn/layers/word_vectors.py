"""Reading pretrained word vectors from text files."""

import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor

from lightning_rnnattn.errors import UserError


def read_word_vectors(path: str | Path, words: Sequence[str], size: int) -> tuple[Tensor, Tensor]:
    """The vectors that a file has for some words.

    The file is the text that GloVe and word2vec write: a line for each word, the word and then its numbers, separated
    by spaces; word2vec's first line, which says how many words and numbers there are, may be there. It may be
    gzip-compressed. A word that the file lacks is looked up in lower case, too. Of a word that occurs twice, the
    first counts. The numbers of other words are counted, but not read.

    Args:
        path: the file.
        words: what to look for.
        size: numbers of a vector.

    Returns:
        Vectors (len(words), size) float32, zeros where a word was not found; and (len(words),) bool, True where it was.

    Raises:
        UserError: if the file cannot be read, its vectors have another size, or a line does not parse.
    """
    wanted = {_key(form) for word in words for form in (word, word.lower())}
    rows: dict[bytes, list[float]] = {}
    is_first = True
    for number, line in enumerate(_lines(Path(path)), start=1):
        fields = line.split()
        if not fields or (number == 1 and _is_header(fields)):
            continue
        if is_first and len(fields) != size + 1:  # in later lines a word may have spaces in it (GloVe 840B)
            raise UserError(
                f"{path}:{number}: vectors of {len(fields) - 1} numbers, but embedding_size is {size}: set it to theirs"
            )
        is_first = False
        if len(fields) <= size:
            raise UserError(f"{path}:{number}: {len(fields)} fields where a word and {size} numbers should be")
        word = b" ".join(fields[:-size])
        if word in wanted and word not in rows:
            rows[word] = _numbers(fields[-size:], f"{path}:{number}")
    found = [rows.get(_key(word)) or rows.get(_key(word.lower())) for word in words]
    vectors = torch.tensor([row or [0.0] * size for row in found], dtype=torch.float32).view(len(words), size)
    return vectors, torch.tensor([row is not None for row in found], dtype=torch.bool)


def read_words(path: str | Path) -> Iterator[str]:
    """The words of a file as `read_word_vectors` reads it, or of a list of words, one on each line.

    Those that are not UTF-8 (word2vec cuts words within characters) or have spaces in them are left out.

    Raises:
        UserError: if the file cannot be read.
    """
    size = None
    for number, line in enumerate(_lines(Path(path)), start=1):
        fields = line.split()
        if not fields or (number == 1 and _is_header(fields)):
            continue
        size = len(fields) - 1 if size is None else size
        if len(fields) == size + 1:
            with suppress(UnicodeDecodeError):
                yield fields[0].decode()


def _key(word: str) -> bytes:
    return word.encode(errors="replace")


def _lines(path: Path) -> Iterator[bytes]:
    # Bytes, since word2vec cuts words within characters.
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            yield from cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if compressed else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: the gzip file is cut short or damaged ({error}): fetch it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot read the word vectors: {error.strerror}") from error


def _is_header(fields: list[bytes]) -> bool:
    return len(fields) == 2 and all(field.isdigit() for field in fields)


def _numbers(fields: list[bytes], place: str) -> list[float]:
    try:
        numbers = [float(field) for field in fields]
    except ValueError as error:
        raise UserError(f"{place}: the line does not parse: {error}") from error
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{place}: the vector has a number that is not finite: remove the line")
    return numbers
