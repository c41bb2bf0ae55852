"""What a module or a data module was made from, in plain data: strings, numbers, lists and dicts.

Injected factories are recorded as ``{"class_path": ..., "init_args": {...}}``, the form that LightningCLI writes and
reads, so that a checkpoint holds no pickled code, and those made in Python and on the command line load alike.
"""

import dataclasses
from abc import ABC
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning_rnnattn.errors import UserError

_RESERVED = ("_class_path", "_instantiator")


@runtime_checkable
class DescribesItself(Protocol):
    """An instance that can be made again from what it says of itself."""

    def to_spec(self) -> dict[str, Any]:
        """Its class and arguments as YAML has them: ``{"class_path": ..., "init_args": {...}}``, plain data only."""


class Described(ABC):  # noqa: B024  # what is abstract is up to subclasses
    """A frozen dataclass that is given to a module or data module: its class is the choice, its fields the options."""

    def to_spec(self) -> dict[str, Any]:
        """The choice as YAML has it: ``{"class_path": ..., "init_args": {...}}``, plain data only."""
        names = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]  # subclasses are
        return {
            "class_path": class_path(type(self)),
            "init_args": {name: spec(getattr(self, name), name) for name in names},
        }


def spec(value: Any, name: str) -> Any:
    """Describes a value that a module was made from.

    Args:
        value: plain data, a class, a ``functools.partial`` of a class (nested ones too), or what `DescribesItself`.
        name: what the value is called, for the message.

    Raises:
        UserError: for a lambda, a function or an instance, which cannot be made again from a description.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [spec(item, name) for item in value]
    if isinstance(value, dict):
        return {key: spec(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, type):
        return {"class_path": class_path(value)}
    if isinstance(value, DescribesItself):
        return value.to_spec()
    if isinstance(value, partial):
        # jsonargparse makes partials of helpers of its own, which take the class.
        *helpers, made = (value.func, *value.args)
        if isinstance(made, type) and all(helper.__module__.startswith("jsonargparse") for helper in helpers):
            init_args = {key: spec(item, f"{name}.{key}") for key, item in value.keywords.items()}
            return {"class_path": class_path(made), "init_args": init_args}
    raise UserError(
        f"{name}: a {type(value).__name__} cannot be recorded in a checkpoint: "
        "give a class, or functools.partial(a class, keyword=...)"
    )


def record(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What Lightning is to record of an instance: what its class is, and plain arguments; see `recorded`."""
    return {
        "_class_path": class_path(cls),
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        **{name: value for name, value in arguments.items() if name not in _RESERVED},
    }


def recorded(hparams: Mapping[str, Any]) -> dict[str, Any] | None:
    """What Lightning recorded of an instance, ``{"_class_path", "_instantiator", **arguments}``, as YAML has it.

    Returns:
        ``{"class_path": ..., "init_args": {...}}``; None where no class is named.
    """
    if "_class_path" not in hparams:
        return None
    arguments = {name: value for name, value in hparams.items() if name not in _RESERVED}
    return {"class_path": hparams["_class_path"], "init_args": arguments}


def class_path(cls: type) -> str:
    """The dotted name by which a class is imported."""
    return f"{cls.__module__}.{cls.__qualname__}"
