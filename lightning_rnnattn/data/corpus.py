"""Text as a stream of lines: from files, from a data set of the HF hub, or a share of either."""

import functools
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning_rnnattn.data.files import Line, read_lines
from lightning_rnnattn.errors import UserError


class Corpus(ABC):
    """A text that can be read again and again, a line at a time, so that it may be larger than memory."""

    name: str

    @property
    @abstractmethod
    def size(self) -> int:
        """The length of the whole, in a unit that only progress bars care about."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What tells this text from every other: other content gives another fingerprint."""

    @abstractmethod
    def lines(self) -> Iterator[Line]:
        """The lines from the beginning; their positions grow to :attr:`size`.

        Raises:
            UserError: naming file and line, where the text cannot be read.
        """


class FileCorpus(Corpus):
    """The lines of text files, one file after the other; see :func:`lightning_rnnattn.data.files.read_lines`."""

    def __init__(self, paths: Sequence[str | Path], errors: str = "strict") -> None:
        self.paths, self._errors = [Path(path) for path in paths], errors
        self.name = ", ".join(str(path) for path in self.paths[:3]) + (", …" if len(self.paths) > 3 else "")

    @property
    def size(self) -> int:
        """The bytes on disk."""
        return sum(_status(path).st_size for path in self.paths)

    def fingerprint(self) -> str:
        """A hash of the contents of the files, in order; not of their names."""
        hashes = []
        for path in self.paths:
            status = _status(path)
            try:
                hashes.append(file_hash(path.absolute(), status.st_size, status.st_mtime_ns))
            except OSError as error:
                raise UserError(f"{path}: cannot read the file: {error.strerror}") from error
        return digest("files", hashes)

    def lines(self) -> Iterator[Line]:
        """The lines of the files."""
        before = 0
        for path in self.paths:
            for line in read_lines(path, self._errors):
                yield line._replace(position=before + line.position)
            before += _status(path).st_size


class HubCorpus(Corpus):
    """One text column of a data set that ``datasets.load_dataset`` finds; a row is a line or several.

    Args:
        dataset: its name on the hub, or a local folder.
        config: its configuration, for data sets that have several.
        split: its split, slices such as ``train[:10%]`` included.
        column: the column with the text.
    """

    def __init__(self, dataset: str, config: str | None, split: str, column: str) -> None:
        import datasets  # slow to import, and few need it

        self.name = f"{dataset}[{split}]"
        try:
            rows = datasets.load_dataset(dataset, config, split=split)
        except Exception as error:  # not found, no network, no such configuration or split: it has a class for each
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"data.dataset: cannot load {self.name}: {reason} (see also data.dataset_config and the splits)"
            ) from error
        if column not in rows.column_names:
            raise UserError(
                f"data.text_column: {self.name} has no column {column!r}, but {', '.join(rows.column_names)}"
            )
        self._rows: Any = rows.select_columns([column])
        self._column = column

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def fingerprint(self) -> str:
        """The fingerprint by which ``datasets`` itself caches: of the files it read and what was done to them."""
        return digest("hub", self._rows._fingerprint)

    def lines(self) -> Iterator[Line]:
        """The rows, a newline added where there is none."""
        number = 0
        for rows in self._rows.iter(batch_size=1000):
            for text in rows[self._column]:
                number += 1
                if not isinstance(text, str):
                    raise UserError(f"{self.name}:{number}: column {self._column!r} has no text but {text!r}")
                yield Line(text if text.endswith("\n") else text + "\n", self.name, number, position=number)


class Part(Corpus):
    """A share of a corpus, between two fractions of its characters.

    A line belongs to the part in which its first character lies: parts that share a bound share no line and leave none
    out.
    """

    def __init__(self, corpus: Corpus, start: float, stop: float) -> None:
        self.name = f"{corpus.name} from {start:.0%} to {stop:.0%}"
        self._corpus, self._start, self._stop = corpus, start, stop

    @property
    def size(self) -> int:
        """The length of the whole corpus, since all of it is read."""
        return self._corpus.size

    def fingerprint(self) -> str:
        """The corpus' and the bounds."""
        return digest("part", self._corpus.fingerprint(), self._start, self._stop)

    def lines(self) -> Iterator[Line]:
        """The lines between the bounds; the whole is read before, to count its characters."""
        total = sum(len(line.text) for line in self._corpus.lines())
        start, stop = round(self._start * total), round(self._stop * total)
        seen = 0
        for line in self._corpus.lines():
            if seen >= stop:
                return
            if seen >= start:
                yield line
            seen += len(line.text)


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot read the file: {error.strerror}") from error


@functools.cache
def file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """A hash of a file's content; a process reads a file once for it, as long as size and time stay the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def digest(*parts: Any) -> str:
    """A short name for ``parts`` (JSON), equal for equal parts."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
