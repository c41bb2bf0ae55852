"""The arguments of a class as jsonargparse finds them: those that it hands on to its parents and others included."""

from typing import Any, NamedTuple

from jsonargparse import ArgumentParser


class Argument(NamedTuple):
    """An argument.

    Attributes:
        type: its type; None where that is not known.
        default: its default; None where it has none, too.
    """

    type: Any
    default: Any


def class_arguments(cls: type) -> dict[str, Argument]:
    """The arguments of a class, by name."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, fail_untyped=False)
    return parser_arguments(parser)


def parser_arguments(parser: ArgumentParser) -> dict[str, Argument]:
    """The arguments of a parser, by name, for which jsonargparse has no public way to ask."""
    return {
        action.dest: Argument(getattr(action, "_typehint", action.type), action.default) for action in parser._actions
    }
