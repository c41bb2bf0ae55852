"""Files that a command writes: none of those that it reads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_rnnattn.errors import UserError


def check_output(option: str, path: str | None, settings: Iterable[tuple[str, Any]]) -> None:
    """Checks that a file to be written is none that a setting names, since that one would be lost.

    Args:
        option: that names the file, for the message.
        path: the file; None if there is to be none.
        settings: all options, by name; a value may be a list.

    Raises:
        UserError: if it is, naming the setting.
    """
    if path is None or not Path(path).is_file():
        return
    for name, value in settings:
        if name == option:
            continue
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, (str, Path)) and Path(item).is_file() and Path(item).samefile(path):
                key = name.replace(".init_args.", ".")
                raise UserError(f"--{option} {path}: is what --{key} reads, and would be lost: write to another file")
