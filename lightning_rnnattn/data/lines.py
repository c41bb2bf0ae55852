"""Lines of a text file that belong together as records: whole, however long."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from lightning_rnnattn.data.files import Line, read_lines


class WholeLine(NamedTuple):
    """A line without its newline.

    Attributes:
        text: what is in it.
        source: the file.
        number: the place in it, from 1.
    """

    text: str
    source: str
    number: int

    @property
    def place(self) -> str:
        """``file:line``, as messages begin."""
        return f"{self.source}:{self.number}"


def whole_lines(path: Path) -> Iterator[WholeLine]:
    """The lines of a UTF-8 text, plain or gzip; as `read_lines`, with the pieces of long lines put together.

    Raises:
        UserError: what `read_lines` raises.
    """
    return joined(read_lines(path))


def joined(lines: Iterable[Line]) -> Iterator[WholeLine]:
    """Lines whose pieces are put together."""
    pieces: list[str] = []
    for line in lines:
        pieces.append(line.text)
        if line.text.endswith("\n"):
            yield WholeLine("".join(pieces)[:-1], line.source, line.number)
            pieces = []
