"""Lines of a text file that belong together as records: whole, however long."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lightning_rnnattn.data.files import read_lines


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
    pieces: list[str] = []
    for line in read_lines(path):
        pieces.append(line.text)
        if line.text.endswith("\n"):
            yield WholeLine("".join(pieces)[:-1], line.source, line.number)
            pieces = []
