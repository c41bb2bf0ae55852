"""Options that must be known before the rest can be parsed."""

import argparse
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lightning_rnnattn.cli.resources import find_config, read_yaml
from lightning_rnnattn.errors import UserError


@dataclass(frozen=True)
class EarlyOptions:
    """The options that decide how all the others are read.

    Attributes:
        modules: modules to import first, so that their classes have names (`--import`).
        ckpt_path: the checkpoint whose settings are the defaults.
        init_from: the checkpoint whose weights and tokenizer a new run starts from.
    """

    modules: tuple[str, ...] = ()
    ckpt_path: str | None = None
    init_from: str | None = None


def early_options(args: list[str]) -> EarlyOptions:
    """Reads the early options from flags and from the top level of each `--config`; flags and later files win.

    Raises:
        UserError: an option without its value, or a `--config` that cannot be read.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--import", dest="modules", action="append", default=[])
    parser.add_argument("-c", "--config", action="append", default=[])
    parser.add_argument("--ckpt_path")
    parser.add_argument("--init_from")
    try:
        flags, _ = parser.parse_known_args(args)
    except argparse.ArgumentError as error:
        raise UserError(str(error).removeprefix("argument ")) from None
    found: dict[str, Any] = {"ckpt_path": None, "init_from": None}
    modules: list[str] = []
    for name in flags.config:
        settings = _top_level(name)
        modules += settings.get("import") or []
        found |= {key: settings[key] for key in found if key in settings}
    typed = {key: value for key in found if (value := getattr(flags, key)) is not None}
    if "ckpt_path" in typed:  # a run's own config.yaml says what it was begun from
        found["init_from"] = None
    found |= typed
    return EarlyOptions(tuple(modules + flags.modules), **found)


def import_modules(names: Iterable[str]) -> None:
    """Imports a user's modules.

    Raises:
        UserError: there is no such module. What goes wrong inside of one keeps its traceback.
    """
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            hint = f"; did you mean --import {name.removesuffix('.py')}?" if name.endswith(".py") else ""
            raise UserError(f"--import {name}: no such module in the working directory or installed{hint}") from None


def _top_level(name: str) -> dict[str, Any]:
    if name.lstrip().startswith("{"):  # a config written out on the command line
        return {}
    path = find_config(name)
    settings = read_yaml(path)
    if settings is not None and not isinstance(settings, dict):
        raise UserError(f"--config {path}: a mapping of settings is expected, not {type(settings).__name__}")
    return settings or {}
