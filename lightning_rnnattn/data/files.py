"""Finding and reading text files, so that whatever is wrong with them is named with its place."""

import codecs
import glob
import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, cast

from lightning_rnnattn.errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE = 1 << 20


class Line(NamedTuple):
    """A line, or a piece of a very long one.

    Attributes:
        text: with its newline; every line has one, the last of a file too.
        source: the file.
        number: the place in it, from 1.
        position: how far into the file, in bytes on disk, the reader is; of a corpus, how far into that.
    """

    text: str
    source: str
    number: int
    position: int


def find_files(patterns: str | Path | Sequence[str | Path], key: str) -> list[Path]:
    """The files that paths and glob patterns name, in their order, the matches of a pattern sorted.

    Args:
        patterns: a path or a pattern, or several; ``~`` is the home folder, ``**`` any depth of folders.
        key: the YAML key they come from, for messages.

    Raises:
        UserError: if a path does not exist or a pattern matches nothing.
    """
    found: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str | Path) else patterns:
        path = os.path.expanduser(pattern)
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        files = [Path(match) for match in matches if not os.path.isdir(match)]
        if not files:
            what = "is a folder: name the files in it" if os.path.isdir(path) else "matches no file"
            raise UserError(f"{key}: {pattern} {what} (a pattern such as data/*.txt is fine)")
        found += files
    if not found:
        raise UserError(f"{key}: the list is empty: name at least one file")
    return found


def read_lines(path: Path, errors: str = "strict") -> Iterator[Line]:
    """The lines of a UTF-8 text, plain or gzip (told by its first bytes), CR LF read as a newline.

    A byte order mark is skipped and a missing last newline added. A line of more than a megabyte comes in pieces, cut
    before a space where there is one.

    Args:
        path: the file.
        errors: what is done about bytes that are not UTF-8, as of ``bytes.decode``: "surrogateescape" reads on.

    Raises:
        UserError: if the file is missing, empty, damaged, not UTF-8, or holds NUL bytes (UTF-16, say, or no text at
            all).
    """
    number, offset = 1, 0
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if compressed else raw
            for piece in _pieces(stream):
                if (nul := piece.find(b"\0")) >= 0:
                    raise UserError(
                        f"{path}:{number}: NUL byte at offset {offset + nul}: not a text in UTF-8; convert it first"
                    )
                try:
                    text = piece.decode(errors=errors)
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{path}:{number}: byte 0x{piece[error.start]:02x} at offset {offset + error.start} is not"
                        " UTF-8: convert the file first, for example with `iconv -f LATIN1 -t UTF-8`"
                    ) from error
                if offset == 0:
                    text = text.removeprefix(codecs.BOM_UTF8.decode())
                if text.endswith("\r\n"):
                    text = text[:-2] + "\n"
                yield Line(text, str(path), number, raw.tell() if compressed else offset)
                offset += len(piece)
                number += text.endswith("\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}:{number}: the gzip file is cut short or damaged ({error}): fetch it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot read the file: {error.strerror}") from error
    if offset == 0:
        raise UserError(f"{path}:1: the file is empty: remove it from the list or fill it")


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while piece := rest + stream.readline(MAX_LINE):
        rest = b""
        if not piece.endswith(b"\n"):
            if len(piece) < MAX_LINE:
                piece += b"\n"  # the end of the file
            else:
                # No word and no byte-level token reaches across the beginning of a space; else between characters.
                cut = piece.rfind(b" ", 1)
                cut = cut if cut > 0 else _last_character(piece)
                piece, rest = piece[:cut], piece[cut:]
        yield piece


def _last_character(piece: bytes) -> int:
    """Where the last character begins; UTF-8 has at most three continuation bytes."""
    return next((i for i in range(len(piece) - 1, len(piece) - 5, -1) if piece[i] & 0xC0 != 0x80), len(piece))
