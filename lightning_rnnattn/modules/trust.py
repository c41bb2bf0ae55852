"""Which classes a description in plain data would import, found without importing any that is not trusted."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path, PurePath
from pkgutil import resolve_name
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml  # type: ignore[import-untyped]

from lightning_rnnattn.arguments import class_arguments
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.spec import recorded

TRUSTED = ("lightning_rnnattn", "lightning.pytorch", "torch.nn", "torch.optim")
"""Packages whose classes a checkpoint may name."""

_PLAIN = (str, int, float, complex, PurePath, Enum, NoneType)
_ANYTHING = (Any, ..., object, list, tuple, dict, set)
_CONTAINERS = (Union, UnionType, list, tuple, dict, set, frozenset, Sequence, Iterable, Mapping)


def check_classes(hparams: Any) -> None:
    """Checks that every class in recorded hyper-parameters is trusted, or imported already.

    A class is named by a ``class_path``, and also by bare text where a class is expected, since jsonargparse imports
    both; and it reads text as YAML, or as the name of a YAML file, in which there may be more of them.

    Args:
        hparams: ``{"_class_path": ..., **arguments}``, with ``{"class_path", "init_args"}`` for each class inside.

    Raises:
        UserError: naming the class, and what to do.
    """
    if isinstance(hparams, dict):
        hparams = recorded(hparams) or hparams
    for class_path in _class_paths(hparams, Any):
        _check(class_path)


def _check(class_path: str) -> None:
    module, _, name = class_path.rpartition(".")
    if not module or not all(part.isidentifier() for part in class_path.split(".")):
        raise UserError(f"names {class_path!r}, which is no class that can be imported")
    if module == "__main__":
        if not hasattr(sys.modules[module], name):
            raise UserError(
                f"names {class_path}, which was defined in the script that was run: move it to a module of its own, "
                "or load the checkpoint from that script"
            )
    elif not any(f"{module}.".startswith(f"{trusted}.") for trusted in TRUSTED) and module not in sys.modules:
        raise UserError(
            f"names {class_path}, which is not imported; if you trust it, add --import {module} "
            f"(in Python: import {module} first)"
        )
    try:
        resolve_name(class_path)
    except (AttributeError, ImportError, ValueError) as error:
        raise UserError(f"names {class_path}, which does not exist ({error})") from error


def _class_paths(value: Any, hint: Any) -> Iterator[str]:
    """The classes in a value; each must be found trusted before the next is asked for, since it is imported then.

    Args:
        value: plain data.
        hint: the type of the argument that it is for; None where that is not known.
    """
    if isinstance(value, str):
        read = _as_yaml(value)
        if not isinstance(read, str):
            yield from _class_paths(read, hint)
        elif not _is_plain(hint) and ("." in read or Path(read).is_file()):  # of which jsonargparse reads the settings
            yield read
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _class_paths(item, hint)
    elif isinstance(value, dict):
        # jsonargparse takes "a.b" for the key b inside of a.
        for class_path in (item for key, item in value.items() if str(key).rpartition(".")[2] == "class_path"):
            if isinstance(class_path, str):
                yield class_path
        named = resolve_name(value["class_path"]) if isinstance(value.get("class_path"), str) else None
        arguments = class_arguments(named) if isinstance(named, type) else {}
        for key, item in value.items():
            if key in ("init_args", "dict_kwargs") and isinstance(item, dict):
                for name, argument in item.items():
                    yield from _class_paths(argument, arguments[name].type if name in arguments else None)
            elif key != "class_path":
                yield from _class_paths(item, None if arguments else hint)


def _as_yaml(text: str) -> Any:
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return read if isinstance(read, (dict, list)) else text


def _is_plain(hint: Any) -> bool:
    """Whether an argument of this type takes text as text, and never for the name of a class."""
    origin = get_origin(hint)
    if origin is Literal:
        return True
    if get_args(hint):
        return origin in _CONTAINERS and all(map(_is_plain, get_args(hint)))
    if hint in _ANYTHING or type(hint).__module__ == "jsonargparse._typehints":  # stands for none, or an unknown one
        return True
    return isinstance(hint, type) and issubclass(hint, _PLAIN)
