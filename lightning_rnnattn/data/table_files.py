"""Tables in files: TSV, CSV, JSON lines, plain lines."""

import csv
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_rnnattn.data.corpus import FileCorpus, digest
from lightning_rnnattn.data.lines import WholeLine, whole_lines
from lightning_rnnattn.data.tables import Row, Table, Tables, listed, plain_value, shortened
from lightning_rnnattn.errors import UserError


class TableFile(Table):
    """Some columns of a UTF-8 file, plain or gzip.

    Args:
        path: the file.
        columns: the columns to read; what else is in the file is left alone.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]) -> None:
        self.path, self.columns, self.name = Path(path), tuple(columns), str(path)

    def fingerprint(self) -> str:
        """A hash of the file's content, and the columns."""
        return digest("table", type(self).__name__, self.columns, FileCorpus([self.path]).fingerprint())


class _HeaderFile(TableFile):
    """A file whose first line names the columns; every row has as many fields."""

    def rows(self) -> Iterator[Row]:
        """The rows below the header.

        Raises:
            UserError: if the header lacks a column or has it twice, or a row has more or fewer fields.
        """
        records = self._records()
        first = next(records)
        where = self._find(*first)
        for line, fields in records:
            if len(fields) != len(first[1]):
                what = f"the row has {len(fields)} field(s)" if line.text else "the line is empty"
                raise UserError(f"{line.place}: {what}, but the header has {len(first[1])}: correct or remove the row")
            yield Row({name: fields[i] for name, i in where.items()}, line.source, line.number)

    @abstractmethod
    def _records(self) -> Iterator[tuple[WholeLine, list[str]]]:
        """The fields of each record, with the line where it begins."""

    def _find(self, line: WholeLine, header: list[str]) -> dict[str, int]:
        times = Counter(header)
        for name in self.columns:
            if times[name] != 1:
                what = "there is no column" if not times[name] else f"{times[name]} columns have the name"
                raise UserError(f"{line.place}: {what} {name!r}; the header has {listed(header)}")
        return {name: header.index(name) for name in self.columns}


class TSVFile(_HeaderFile):
    """Fields separated by tabs. There is no quoting: a quotation mark is a character like any other."""

    def _records(self) -> Iterator[tuple[WholeLine, list[str]]]:
        for line in whole_lines(self.path):
            yield line, line.text.split("\t")


class CSVFile(_HeaderFile):
    """Fields separated by commas (RFC 4180): those in quotation marks may have commas, newlines and doubled quotes."""

    def _records(self) -> Iterator[tuple[WholeLine, list[str]]]:
        line = WholeLine("", self.name, 1)
        begun = False

        def lines() -> Iterator[str]:
            nonlocal line, begun
            for each in whole_lines(self.path):
                if not begun:
                    line, begun = each, True
                yield each.text + "\n"

        reader = csv.reader(lines(), strict=True)
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise UserError(
                    f"{line.place}: the row that begins here is no CSV ({error}): is a quotation mark left open or not"
                    " doubled?"
                ) from error
            yield line, fields or [""]
            begun = False


class JSONLFile(TableFile):
    """A JSON object in each line. A column ``a.b`` is the key ``b`` of the object ``a``, unless there is a key ``a.b``.

    Values are texts, numbers or booleans (taken as JSON writes them), or lists of those.
    """

    def rows(self) -> Iterator[Row]:
        """The objects.

        Raises:
            UserError: if a line is not an object in JSON, lacks a column, or has a value of another type.
        """
        for line in whole_lines(self.path):
            try:
                record = json.loads(line.text, object_pairs_hook=_distinct)
            except (ValueError, RecursionError) as error:
                what = f"the line is not JSON ({error})" if line.text.strip() else "the line is empty"
                raise UserError(f"{line.place}: {what}: each line must be one JSON object") from error
            if not isinstance(record, dict):
                raise UserError(f"{line.place}: a {type(record).__name__}, not an object: write {{…}} on each line")
            fields = {name: plain_value(_look_up(record, name, line.place), name, line.place) for name in self.columns}
            yield Row(fields, line.source, line.number)


class TextLines(TableFile):
    """Plain lines: the columns in their order, a space after each but the last, which may have spaces itself.

    With the columns ``label, text``, the line ``1 a fine film`` has the label ``1`` and the text ``a fine film``; with
    one column, that is the whole line.
    """

    def rows(self) -> Iterator[Row]:
        """The lines.

        Raises:
            UserError: if a line has too few spaces, or nothing before one of them.
        """
        for line in whole_lines(self.path):
            parts = line.text.split(" ", len(self.columns) - 1)
            if len(parts) < len(self.columns) or not all(parts[:-1]):
                names = " ".join(f"<{name}>" for name in self.columns)
                raise UserError(
                    f"{line.place}: not of the form `{names}` with one space between (files with a header end in .tsv"
                    f" or .csv, JSON in .jsonl): {shortened(line.text)}"
                )
            yield Row(dict(zip(self.columns, parts, strict=True)), line.source, line.number)


FORMATS: Mapping[str, type[TableFile]] = {".tsv": TSVFile, ".csv": CSVFile, ".jsonl": JSONLFile}
"""What a file's last suffix, before a ``.gz``, says about it."""

_FOREIGN = {".json": "save one object per line, as .jsonl", ".parquet": "load its folder by data.dataset"}


def table_of_files(
    paths: Sequence[Path], columns: Sequence[str], otherwise: type[TableFile] | None = TextLines
) -> Table:
    """The rows of files, each read as its suffix says.

    Args:
        paths: the files; ``.tsv``, ``.csv`` and ``.jsonl``, each with ``.gz`` after it or not, are told by their names.
        columns: the columns to read.
        otherwise: what files of other suffixes are read as; None where they are not read.

    Raises:
        UserError: for files that are not read: ``.json``, ``.parquet``, and others where nothing says as what.
    """
    tables = []
    for path in paths:
        suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
        if suffix in _FOREIGN:
            raise UserError(f"{path}: {suffix} files are not read: {_FOREIGN[suffix]}")
        kind = FORMATS.get(suffix, otherwise)
        if kind is None:
            names = " and ".join(map(repr, columns))
            raise UserError(
                f"{path}: does not say by its name how its columns are written: let it end in {', '.join(FORMATS)}"
                f" (the first two with a header that has {names})"
            )
        tables.append(kind(path, columns))
    return tables[0] if len(tables) == 1 else Tables(tables)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {name!r} occurs twice")
    return record


def _look_up(record: dict[str, Any], name: str, place: str) -> Any:
    if name in record:
        return record[name]
    outer, _, inner = name.partition(".")
    if inner and isinstance(record.get(outer), dict):
        return _look_up(record[outer], inner, place)
    raise UserError(f"{place}: there is no key {name!r}; the object has {listed(list(record))}")
