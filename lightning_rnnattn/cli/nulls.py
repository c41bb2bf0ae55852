"""Settings that are null where something is needed: jsonargparse takes null for any type."""

from collections.abc import Iterator
from functools import partial
from pkgutil import resolve_name
from types import NoneType
from typing import Any, get_args

from jsonargparse import Namespace

from lightning_rnnattn.arguments import class_arguments
from lightning_rnnattn.errors import UserError


def check_nulls(settings: Any, key: str) -> None:
    """Checks that no argument of a class is null unless its type or its default says that it may be.

    Args:
        settings: a parsed class: ``class_path`` and ``init_args``, with more of them inside.
        key: its key, for messages.

    Raises:
        UserError: naming the key and the type.
    """
    for path, class_path, name in _nulls(settings, key):
        hint, default = class_arguments(resolve_name(class_path)).get(name, (None, None))
        if default is None or hint is None or hint is Any or NoneType in get_args(hint):
            continue  # what is required is asked of the data
        raise UserError(f"{path}: expected {getattr(hint, '__name__', hint)}, not null; leave it out for the default")


def _nulls(settings: Any, key: str) -> Iterator[tuple[str, str, str]]:
    """Every null: its key, the class that it is an argument of, and its name."""
    if isinstance(settings, partial):
        return
    if isinstance(settings, list):
        for item in settings:
            yield from _nulls(item, key)
    elif isinstance(settings, (Namespace, dict)):
        items = settings.as_dict() if isinstance(settings, Namespace) else settings
        for name, value in (items.get("init_args") or {}).items():
            if value is None:
                yield f"{key}.{name}", items["class_path"], name
            else:
                yield from _nulls(value, f"{key}.{name}")
