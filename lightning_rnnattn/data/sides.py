"""Texts that stand beside each other line by line: the two sides of pairs."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from lightning_rnnattn.data.corpus import Corpus, digest
from lightning_rnnattn.data.files import Line
from lightning_rnnattn.data.lines import joined
from lightning_rnnattn.data.tables import Table
from lightning_rnnattn.errors import UserError


class ColumnCorpus(Corpus):
    """A column of a table, a line for each row.

    Args:
        table: the table.
        column: its column, with one text in each row.
    """

    def __init__(self, table: Table, column: str) -> None:
        self.name, self._table, self._column = table.name, table, column

    @property
    def size(self) -> int:
        """One: how many rows there are is not known before they are read."""
        return 1

    def fingerprint(self) -> str:
        """The table's, and the column."""
        return digest("column", self._table.fingerprint(), self._column)

    def lines(self) -> Iterator[Line]:
        """The rows."""
        for row in self._table.rows():
            yield Line(row.text(self._column) + "\n", row.source, row.number, 0)


class ListCorpus(Corpus):
    """Lines in memory.

    Args:
        texts: the lines, without their newlines.
        name: what they are called in messages.
    """

    def __init__(self, texts: Sequence[str], name: str) -> None:
        self._texts, self.name = texts, name

    @property
    def size(self) -> int:
        """The number of lines."""
        return len(self._texts)

    def fingerprint(self) -> str:
        """A hash of the lines."""
        return digest("list", list(self._texts))

    def lines(self) -> Iterator[Line]:
        """The lines."""
        for number, text in enumerate(self._texts, start=1):
            yield Line(text + "\n", self.name, number, number)


class Side(Corpus):
    """A corpus as one side of pairs: lines are whole, and without white space around them.

    Args:
        corpus: the corpus.
        lowercase: whether it is read in lower case.
        forgiving: whether lines that cannot be read are empty; else they are an error.
    """

    def __init__(self, corpus: Corpus, lowercase: bool, forgiving: bool) -> None:
        self.name, self._corpus, self._lowercase, self._forgiving = corpus.name, corpus, lowercase, forgiving

    @property
    def size(self) -> int:
        """The corpus'."""
        return self._corpus.size

    def fingerprint(self) -> str:
        """The corpus', and how it is read."""
        return digest("side", self._corpus.fingerprint(), self._lowercase, self._forgiving)

    def lines(self) -> Iterator[Line]:
        """The lines.

        Raises:
            UserError: where one cannot be read, or has a newline inside, as a field of a table may.
        """
        position = 0

        def watched() -> Iterator[Line]:
            nonlocal position
            for line in self._corpus.lines():
                position = line.position
                yield line

        for line in joined(watched()):
            text = line.text.strip()
            if "\n" in text and not self._forgiving:
                raise UserError(f"{line.place}: the text has a newline inside: a source or target is one line")
            if self._forgiving and ("\n" in text or not _is_unicode(text)):
                text = ""
            yield Line((text.lower() if self._lowercase else text) + "\n", line.source, line.number, position)


class Chosen(Corpus):
    """Some of the lines of a side.

    Args:
        side: the side.
        chosen: (N,) bool, which of its lines.
    """

    def __init__(self, side: Side, chosen: npt.NDArray[np.bool_]) -> None:
        self.name, self._side, self._chosen = side.name, side, chosen

    @property
    def size(self) -> int:
        """The side's, since all of it is read."""
        return self._side.size

    def fingerprint(self) -> str:
        """The side's, and which lines are chosen."""
        return digest("chosen", self._side.fingerprint(), np.packbits(self._chosen).tobytes().hex())

    def lines(self) -> Iterator[Line]:
        """The lines."""
        return (line for line, chosen in zip(self._side.lines(), self._chosen, strict=False) if chosen)


class Both(Corpus):
    """Two corpora, one after the other."""

    def __init__(self, first: Corpus, second: Corpus) -> None:
        self.name, self._first, self._second = f"{first.name}, {second.name}", first, second

    @property
    def size(self) -> int:
        """That of both."""
        return self._first.size + self._second.size

    def fingerprint(self) -> str:
        """Those of both, in order."""
        return digest("both", self._first.fingerprint(), self._second.fingerprint())

    def lines(self) -> Iterator[Line]:
        """The lines of each."""
        yield from self._first.lines()
        for line in self._second.lines():
            yield line._replace(position=self._first.size + line.position)


def _is_unicode(text: str) -> bool:
    """Whether it has no lone surrogates, which stand for bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
