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
    parser.add_argument("name", nargs="?", help="of the config to copy, as the list has it, or a recipe's folder")
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
        copies = copy_files(options.name, Path(options.folder))
        print(*copies, "\nRun it with", sep="\n")
        for copy in copies:
            if copy.suffix == ".yaml":
                verb = "wandb sweep" if copy.parent.name == "sweeps" else "lightning_rnnattn fit --config"
                print(f"  {verb} {shlex.quote(str(copy))}")


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
    print("A whole recipe  lightning_rnnattn recipes copy tinyshakespeare FOLDER")


def copy_files(name: str, folder: Path) -> list[Path]:
    """Copies a shipped YAML file, or a recipe, and the parts that it refers to, keeping their places to each other.

    Args:
        name: as `lightning_rnnattn recipes` lists it, or of a recipe's folder.
        folder: where to; made where it does not exist.

    Returns:
        The copies of what the name stands for; those of parts are left out.

    Raises:
        UserError: there is none of that name, or a file is in the way.
    """
    sources = _recipe(name) or [find_shipped(name)]
    configs = [source for source in sources if source.suffix == ".yaml"]
    parts = dict.fromkeys([*sources, *(part for config in configs for part in _references(config))])
    top = Path(os.path.commonpath([part.parent for part in parts]))
    targets = {part: folder / part.relative_to(top) for part in parts}
    for target in targets.values():
        if target.exists():
            raise UserError(f"{target} exists: move it away, or copy to another folder")
    for part, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(part, target)
    return [targets[source] for source in sources]


def _recipe(name: str) -> list[Path]:
    """The YAML files of a recipe, its README and the pictures in that; none where the name is not a recipe's."""
    folder = root() / "recipes" / name.removeprefix("recipes/")
    configs = [path for _, path in shipped() if path.parent == folder]
    readme = folder / "README.md"
    if not configs or not readme.is_file():
        return configs
    text = readme.read_text(encoding="utf-8")
    return [*configs, readme, *(picture for picture in sorted(folder.glob("*.png")) if picture.name in text)]


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
