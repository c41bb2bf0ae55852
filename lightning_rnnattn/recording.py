"""Instances that know what they were made from, whoever makes them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

_ARGUMENTS = "_arguments"


class Recorded:
    """Base of classes that record the arguments they were made from: those of the outermost ``__init__``.

    A subclass with an ``__init__`` of its own can so be made again from its own arguments, whatever it hands to its
    parents. (Lightning collects those of every ``__init__`` up the stack, which no single one of them takes.) They are
    known before that ``__init__`` runs.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def take_arguments(self) -> dict[str, Any] | None:
        """What the instance was made from, by name; None where it was taken already: it is not kept."""
        return vars(self).pop(_ARGUMENTS, None)


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def recorded(self: Recorded, *args: Any, **kwargs: Any) -> None:
        if type(self).__init__ is recorded:  # not that of a base class
            vars(self)[_ARGUMENTS] = _arguments(init, self, *args, **kwargs)
        init(self, *args, **kwargs)

    return recorded


def _arguments(init: Callable[..., None], self: Recorded, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The arguments of a call, by name; what is wrong with them is left to the call itself."""
    try:
        bound = inspect.signature(init).bind(self, *args, **kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    _, *names = bound.arguments
    arguments: dict[str, Any] = {}
    for name in names:
        kind, value = bound.signature.parameters[name].kind, bound.arguments[name]
        if kind is inspect.Parameter.VAR_POSITIONAL:  # which the parent has names for
            arguments |= zip(_parent_names(type(self)), value, strict=False)
        else:
            arguments |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    return arguments


def _parent_names(cls: type) -> list[str]:
    """The arguments, in order, of the ``__init__`` that the class's own overrides."""
    _, parent, *_ = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    _, *names = inspect.signature(parent).parameters
    return names
