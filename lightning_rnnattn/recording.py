"""Instances that know what they were made from, whoever makes them."""

import inspect
from collections.abc import Callable
from typing import Any, Self

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.spec import record, spec

_ARGUMENTS = "_arguments"


class Recorded:
    """Base of Lightning's modules and data modules that record the arguments they were made from, as plain data.

    They are those of the outermost ``__init__``, so that a subclass can be made again from its own arguments, whatever
    it hands to its parents. (Lightning collects those of every ``__init__`` up the stack, which no single one of them
    takes.) In ``hparams`` they are ``{"_class_path", "_instantiator", **arguments}``, as LightningCLI writes them.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Notes the arguments, which ``__init__`` may change."""
        self = super().__new__(cls)
        arguments = _arguments(cls, *args, **kwargs)
        if arguments is not None:
            vars(self)[_ARGUMENTS] = arguments
        return self

    def on_unrecordable(self, name: str, error: UserError) -> None:
        """What to do where an argument cannot be made plain data; here, an error."""
        raise error

    def _set_hparams(self, hp: Any) -> None:
        # The one place that every way of recording passes, a subclass's own save_hyperparameters(), too. From the
        # command line arguments are plain already; what Lightning collects would be pickled into the checkpoint.
        made = vars(self).pop(_ARGUMENTS, None)
        arguments = hp if "_class_path" in hp else made
        if arguments is None:  # recorded already
            return
        plain = {}
        for name, value in arguments.items():
            try:
                plain[name] = spec(value, name)
            except UserError as error:
                self.on_unrecordable(name, error)
        super()._set_hparams(record(type(self), plain))  # type: ignore[misc]  # it is a mixin of Lightning's


def _arguments(cls: type, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
    """The arguments of a call, by name; None where it does not fit, as when an instance is copied."""
    try:
        bound = inspect.signature(cls.__init__).bind(None, *args, **kwargs)  # type: ignore[misc]
    except TypeError:
        return None
    bound.apply_defaults()
    _, *names = bound.arguments
    kinds = {name: bound.signature.parameters[name].kind for name in names}
    arguments = {
        name: bound.arguments[name]
        for name in names
        if kinds[name] not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    }
    for name in names:
        if kinds[name] is inspect.Parameter.VAR_POSITIONAL:  # which a parent has names for
            further = [each for each in _parent_names(cls) if each not in arguments]
            arguments |= zip(further, bound.arguments[name], strict=False)
        elif kinds[name] is inspect.Parameter.VAR_KEYWORD:
            arguments |= bound.arguments[name]
    return {name: _copied(value) for name, value in arguments.items()}


def _parent_names(cls: type) -> list[str]:
    """The names that parents have for what a class's ``__init__`` hands on by position, and they to theirs."""
    inits: list[Callable[..., None]] = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    names: dict[str, None] = {}
    for init in inits[1:]:
        _, *parameters = inspect.signature(init).parameters.values()
        names |= dict.fromkeys(each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD)
        if all(each.kind is not each.VAR_POSITIONAL for each in parameters):
            break
    return list(names)


def _copied(value: Any) -> Any:
    """A copy of what may change before it is recorded."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return list(map(_copied, value)) if isinstance(value, list) else value
