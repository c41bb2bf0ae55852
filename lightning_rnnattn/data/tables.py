"""Rows with named columns, whatever they come from."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lightning_rnnattn.data.corpus import digest
from lightning_rnnattn.errors import UserError

Value = str | list[str]


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        fields: the value of each column that was asked for; a list where the format has lists (JSON, the hub).
        source: the file, or the data set and its split.
        number: the line in it where the row begins, or the row, from 1.
    """

    fields: dict[str, Value]
    source: str
    number: int

    @property
    def place(self) -> str:
        """``file:line``, as messages begin."""
        return f"{self.source}:{self.number}"

    def text(self, column: str) -> str:
        """The value of a column that has one text in every row.

        Raises:
            UserError: if it is a list.
        """
        value = self.fields[column]
        if isinstance(value, list):
            raise UserError(f"{self.place}: column {column!r} has a list of {len(value)} where one text is wanted")
        return value


class Table(ABC):
    """Rows that can be read again and again, one at a time."""

    name: str

    @abstractmethod
    def fingerprint(self) -> str:
        """What tells these rows from all others: other content gives another fingerprint."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """The rows from the beginning.

        Raises:
            UserError: naming file and line, where a row cannot be read.
        """


class Tables(Table):
    """Several tables, one after the other."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tuple(tables)
        names = [table.name for table in self.tables]
        self.name = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")

    def fingerprint(self) -> str:
        """Those of the tables, in order."""
        return digest("tables", [table.fingerprint() for table in self.tables])

    def rows(self) -> Iterator[Row]:
        """The rows of each."""
        for table in self.tables:
            yield from table.rows()


def plain_value(value: Any, name: str, place: str) -> Value:
    """A value of JSON or Arrow as text, or as a list of texts.

    Args:
        value: a text, a number, a boolean, or a list of those; numbers and booleans become what JSON writes for them.
        name: the column, for messages.
        place: ``file:line``, for messages.

    Raises:
        UserError: for null, for what is nested deeper, and for text that is not valid Unicode.
    """
    return [_scalar(item, name, place) for item in value] if isinstance(value, list) else _scalar(value, name, place)


def _scalar(value: Any, name: str, place: str) -> str:
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        what = "null" if value is None else f"a {type(value).__name__}"
        raise UserError(f"{place}: {name!r} is {what} where a text, a number or a list of those is wanted")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(f"{place}: {name!r} is not valid Unicode: it has half of a surrogate pair (\\ud800 to \\udfff)")
    return value


def listed(names: Sequence[str]) -> str:
    """The names in one line, cut where there are many."""
    joined = ", ".join(names).replace("\n", " ")
    return joined if len(joined) <= 300 else joined[:299] + "…"


def shortened(text: str, length: int = 60) -> str:
    """The text in quotes, cut where it is long."""
    return repr(text if len(text) <= length else text[: length - 1] + "…")
