"""Files that are made once and used by every process and every later run."""

import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from lightning_rnnattn.errors import UserError

CACHE_VARIABLE = "LIGHTNING_RNNATTN_CACHE"


def default_cache_dir() -> Path:
    """``$LIGHTNING_RNNATTN_CACHE``, else ``lightning_rnnattn`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lightning_rnnattn"


def cached(path: Path, build: Callable[[Path], None]) -> Path:
    """``path``, made by ``build(temporary_path)`` where it is not there yet.

    Of any number of processes that ask at once, one builds and the others wait. The file appears whole or not at all:
    it is renamed into place, and a process killed while it builds leaves nothing that is taken for the file.

    Raises:
        UserError: if the folder cannot be written to.
    """
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(path.name + ".lock")):
            if not path.exists():
                temporary = path.with_name(path.name + ".tmp")  # only the holder of the lock writes it
                try:
                    build(temporary)
                    os.replace(temporary, path)
                finally:
                    temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write to the cache folder {path.parent}: {error.strerror}; name another by data.cache_dir or"
            f" ${CACHE_VARIABLE}"
        ) from error
    return path
