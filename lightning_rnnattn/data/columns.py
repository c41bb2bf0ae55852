"""Sentences from files that have a word on each line, and what is known of it in columns."""

import re
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lightning_rnnattn.data.lines import WholeLine, whole_lines
from lightning_rnnattn.data.tables import shortened
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.spec import Described

CONLLU_COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")


class Sentence(NamedTuple):
    """Some words, N of them.

    Attributes:
        words: the words.
        labels: the label of each word, or None where they were not read.
        source: the file.
        numbers: the line of each word in it, from 1.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...] | None
    source: str
    numbers: tuple[int, ...]


class SentenceFormat(Described):
    """How sentences are written in a file. One of your own is a frozen dataclass that derives from this class."""

    @abstractmethod
    def sentences(self, path: Path, labelled: bool) -> Iterator[Sentence]:
        """The sentences of a UTF-8 file, plain or gzip.

        Args:
            path: the file.
            labelled: whether the labels are read; without them, the file need not have any.

        Raises:
            UserError: naming file and line, where the file is not of this format.
        """


@dataclass(frozen=True)
class CoNLLU(SentenceFormat):
    """CoNLL-U, as in Universal Dependencies: ten columns, a tab between, a blank line after each sentence.

    Words are the lines whose id is a whole number. The lines of multiword tokens (``3-4``) repeat what stands in the
    words below them, and empty nodes (``8.1``) are no words: both are left out.

    Args:
        word: the column with the word, by its name or number (``ID`` is 1).
        label: the column with the label.
    """

    word: str | int = "FORM"
    label: str | int = "UPOS"

    def __post_init__(self) -> None:
        self._indices()

    def sentences(self, path: Path, labelled: bool) -> Iterator[Sentence]:
        """The sentences.

        Raises:
            UserError: for a line without ten columns, ids that are not 1, 2, … in each sentence, a sentence without
                words, and one that no blank line ends.
        """
        word, label = self._indices()
        columns = (word, label) if labelled else (word,)
        words: list[tuple[WholeLine, list[str]]] = []
        begun = False  # a comment or a word came since the last blank line
        line = WholeLine("", str(path), 1)
        for line in whole_lines(path):
            if not line.text.strip():
                if begun and not words:
                    raise UserError(f"{line.place}: the sentence that ends here has comments but no words: remove them")
                if begun:
                    yield _sentence(words, labelled)
                words, begun = [], False
            elif line.text.startswith("#"):
                if words:
                    raise UserError(f"{line.place}: a comment inside a sentence: is the blank line before it missing?")
                begun = True
            else:
                begun = True
                fields = line.text.split("\t")
                if len(fields) != len(CONLLU_COLUMNS):
                    raise UserError(
                        f"{line.place}: CoNLL-U has {len(CONLLU_COLUMNS)} columns with a tab between, but here are"
                        f" {len(fields)}: {shortened(line.text)}"
                    )
                if _is_word(fields[0], len(words) + 1, line):
                    words.append((line, [fields[column] for column in columns]))
        if begun:
            raise UserError(f"{line.place}: no blank line ends the last sentence: is the file cut short?")

    def _indices(self) -> tuple[int, int]:
        return _conllu_index(self.word, "word"), _conllu_index(self.label, "label")


@dataclass(frozen=True)
class Columns(SentenceFormat):
    """Columns with white space between, as CoNLL-2003 and its like: a word on a line, a blank line between sentences.

    Lines that begin with ``-DOCSTART-`` are left out. Labels are read as they are, whatever scheme they follow (BIO,
    IOB1, …). Every line of a file has as many columns as its first.

    Args:
        word: the number of the column with the word; 1 is the first, -1 the last.
        label: the number of the column with the label, likewise.
    """

    word: int = 1
    label: int = -1

    def __post_init__(self) -> None:
        for name, column in (("word", self.word), ("label", self.label)):
            if column == 0:
                raise UserError(f"data.format.{name} is 0: columns count from 1, or from -1 at the end")

    def sentences(self, path: Path, labelled: bool) -> Iterator[Sentence]:
        """The sentences.

        Raises:
            UserError: for a line with more or fewer columns than the first, or without those that are read.
        """
        columns = {"word": self.word, "label": self.label} if labelled else {"word": self.word}
        words: list[tuple[WholeLine, list[str]]] = []
        first: tuple[int, int] | None = None  # number and columns of the first line with any
        for line in whole_lines(path):
            fields = _fields(line.text)
            if fields and fields[0] != "-DOCSTART-":
                first = first or (line.number, len(fields))
                if len(fields) != first[1]:
                    raise UserError(
                        f"{line.place}: {len(fields)} column(s), where line {first[0]} has {first[1]}"
                        " (plain lines of words are read by data.predict_format: WordLines)"
                    )
                words.append((line, [_pick(fields, column, name, line) for name, column in columns.items()]))
            elif words:
                yield _sentence(words, labelled)
                words = []
        if words:
            yield _sentence(words, labelled)


@dataclass(frozen=True)
class WordLines(SentenceFormat):
    """Plain text, for predictions: each line is a sentence, its words separated by white space. It has no labels."""

    def sentences(self, path: Path, labelled: bool) -> Iterator[Sentence]:
        """The sentences; an empty line is one without words.

        Raises:
            UserError: if labels are asked for.
        """
        if labelled:
            raise UserError(f"{path}:1: plain lines have no labels: set data.format to CoNLLU or Columns")
        for line in whole_lines(path):
            words = _fields(line.text)
            yield Sentence(tuple(words), None, line.source, (line.number,) * len(words))


def _sentence(words: list[tuple[WholeLine, list[str]]], labelled: bool) -> Sentence:
    labels = tuple(columns[1] for _, columns in words) if labelled else None
    numbers = tuple(line.number for line, _ in words)
    return Sentence(tuple(columns[0] for _, columns in words), labels, words[0][0].source, numbers)


def _fields(text: str) -> list[str]:
    return [field for field in re.split(r"[ \t]+", text) if field]  # not split(): a no-break space is part of a word


def _pick(fields: list[str], column: int, name: str, line: WholeLine) -> str:
    index = column - 1 if column > 0 else column + len(fields)
    if not 0 <= index < len(fields):
        raise UserError(f"{line.place}: data.format.{name} is {column}, but the line has {len(fields)} column(s)")
    return fields[index]


def _conllu_index(column: str | int, name: str) -> int:
    if str(column).upper() in CONLLU_COLUMNS:
        return CONLLU_COLUMNS.index(str(column).upper())
    if re.fullmatch(r"[1-9]|10", str(column)):
        return int(column) - 1
    raise UserError(f"data.format.{name} is {column!r}: it must be one of {', '.join(CONLLU_COLUMNS)}, or 1 to 10")


def _is_word(identifier: str, expected: int, line: WholeLine) -> bool:
    """Whether the line is a word and no multiword token or empty node."""
    if re.fullmatch(r"[0-9]+[-.][0-9]+", identifier):
        return False
    if identifier != str(expected):
        raise UserError(
            f"{line.place}: the id is {shortened(identifier)}, where {expected} is due: each sentence counts its words"
            " 1, 2, … and ends in a blank line"
        )
    return True
