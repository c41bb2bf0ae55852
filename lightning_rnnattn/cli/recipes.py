"""`lightning_rnnattn recipes`: what is shipped, and copies of it to change."""

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.cli.resources import find_shipped, read_yaml, root, shipped, summary
from lightning_rnnattn.errors import UserError


def make_parser() -> PlainParser:
    """Makes the parser of the options."""
    parser = PlainParser("recipes", "List the shipped configs and recipes, or copy one.")
    parser.add_argument("action", nargs="?", choices=["list", "copy"], default="list", help="(default: list)")
    parser.add_argument("name", nargs="?", help="of the config or recipe to copy, as the list has it")
    parser.add_argument("folder", nargs="?", help="where to copy it to")
    return parser


def run(command: str, args: list[str]) -> None:
    """Lists or copies.

    Raises:
        UserError: for a name that is not shipped, or files that a copy would overwrite.
    """
    options = make_parser().parse_args(args)
    if options.action == "list":
        _list()
    elif options.name is None or options.folder is None:
        raise UserError("give a name and a folder: lightning_rnnattn recipes copy quickstart.yaml my_project")
    else:
        copy = copy_config(options.name, Path(options.folder))
        print(f"{copy}\n\nRun it with\n  lightning_rnnattn fit --config {shlex.quote(str(copy))}")


def _list() -> None:
    entries = list(shipped())
    width = max(len(name) for name, _ in entries)
    for kind, title in {
        "configs": "Configs: the quickstart, and parts that stack",
        "recipes": "Recipes: whole runs",
    }.items():
        print(f"{title}\n")
        for name, path in entries:
            if path.is_relative_to(root() / kind):
                print(f"  {name:{width}}  {summary(path)}")
        print()
    print("Run one with    lightning_rnnattn fit --config NAME [--config NAME …]")
    print("Copy one with   lightning_rnnattn recipes copy NAME FOLDER")


def copy_config(name: str, folder: Path) -> Path:
    """Copies a shipped YAML file and the parts that it refers to, in the same places relative to each other.

    Args:
        name: as `lightning_rnnattn recipes` lists it.
        folder: where to; made where it does not exist.

    Returns:
        The copy.

    Raises:
        UserError: there is none of that name, or a file is in the way.
    """
    source = find_shipped(name)
    parts = dict.fromkeys([source, *_references(source)])
    top = Path(os.path.commonpath([part.parent for part in parts]))
    targets = {part: folder / part.relative_to(top) for part in parts}
    for target in targets.values():
        if target.exists():
            raise UserError(f"{target} exists: move it away, or copy to another folder")
    for part, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(part, target)
    return targets[source]


def _references(path: Path) -> Iterator[Path]:
    """The YAML files that one refers to, directly or through others."""
    for text in _strings(read_yaml(path)):
        part = (path.parent / text).resolve()
        if text.endswith(".yaml") and part.is_file():
            yield part
            yield from _references(part)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)
