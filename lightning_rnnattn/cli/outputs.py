"""Files that a command writes: none of those that it reads, and such as can be written."""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from glob import escape as glob_escape
from glob import glob
from pathlib import Path
from typing import Any

from lightning_rnnattn.errors import UserError


def check_output(option: str, path: str | None, settings: Iterable[tuple[str, Any]]) -> None:
    """Checks that a file to be written is none that a setting names, or standard input: it would be lost.

    Args:
        option: that names the file, for the message.
        path: the file; None if there is to be none.
        settings: all options, by name; a value may be a path, a pattern, or a list.

    Raises:
        UserError: if it is, naming what reads it.
    """
    if path is None or not os.path.isfile(path):
        return
    readers = [f"--{name}" for name, value in settings if name != option and _names(value, path)]
    readers += ["standard input"] if _is_stdin(path) else []
    if readers:
        key = readers[0].replace(".init_args.", ".")
        raise UserError(f"--{option} {path}: {key} reads this file, which would be lost: write to another")


def check_writable(option: str, path: str) -> None:
    """Checks that a file can be put in its place, before what is to be in it is computed.

    Raises:
        UserError: if it cannot.
    """
    place = Path(path).resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{option} {path}: {error.strerror}") from None
    if place.exists() and not place.is_file():
        raise UserError(f"--{option} {path}: is {'a folder' if place.is_dir() else 'no file'}: name a file")
    if not os.access(place.parent, os.W_OK):
        raise UserError(f"--{option} {path}: no file can be written in {place.parent}")


def _names(value: Any, path: str) -> bool:
    return any(os.path.isfile(file) and os.path.samefile(file, path) for file in _files(value))


def _files(value: Any) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _files(item)
    elif isinstance(value, (str, os.PathLike)):
        name = os.path.expanduser(os.fspath(value))
        yield from [name] if os.path.exists(name) else glob(name, recursive=True)
        for pattern in ("*.safetensors", "config.json"):  # a folder that is a model
            yield from glob(os.path.join(glob_escape(name), pattern))


def _is_stdin(path: str) -> bool:
    try:
        source = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or none of the system's
        return False
    return stat.S_ISREG(source.st_mode) and os.path.samestat(source, os.stat(path))
