"""The YAML files that the package ships, found by name from any directory.

A checkout has them in `configs/` and `recipes/` beside the package, a wheel in `lightning_rnnattn/_shipped/`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from lightning_rnnattn.cli.errors import nearest
from lightning_rnnattn.errors import UserError

KINDS = ("configs", "recipes")


def root() -> Path:
    """The folder that holds the shipped `configs` and `recipes`."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_shipped"
    return shipped if shipped.is_dir() else package.parent


def shipped() -> Iterator[tuple[str, Path]]:
    """Every shipped YAML file as (name, path), where the name is what `--config` takes: `model/lstm.yaml`."""
    for kind in KINDS:
        folder = root() / kind
        for path in sorted(folder.rglob("*.yaml")):
            yield path.relative_to(folder).as_posix(), path


def find_shipped(name: str) -> Path:
    """The shipped YAML file of a name, with or without `.yaml` and a leading `configs/` or `recipes/`.

    Raises:
        UserError: there is none; the message has the nearest.
    """
    names = {known.removesuffix(".yaml"): path for known, path in shipped()}  # the suffix would make all names alike
    wanted = name.removesuffix(".yaml")
    for kind in KINDS:
        wanted = wanted.removeprefix(f"{kind}/")
    if wanted in names:
        return names[wanted]
    hint = nearest(wanted, names) or "; `lightning_rnnattn recipes` lists what is"
    raise UserError(f"no {name!r} is shipped{hint}")


def find_config(name: str) -> Path:
    """The YAML file that a user means: a file of that name, or else a shipped one.

    Raises:
        UserError: there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    try:
        return find_shipped(name)
    except UserError as error:
        raise UserError(f"--config {name}: no such file, and {error}") from None


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        UserError: it cannot be read, or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: {error}") from None


def summary(path: Path) -> str:
    """What a shipped YAML file says of itself: its first comment line."""
    with path.open(encoding="utf-8") as lines:
        return next(lines, "").lstrip("# ").strip()
