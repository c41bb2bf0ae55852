"""The parser of a subcommand."""

from functools import partial
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from lightning_rnnattn.spec import spec


class Parser(LightningArgumentParser):
    """A parser to which a default such as ``partial(LSTM, bidirectional=True)`` is a class with options.

    To jsonargparse a partial is an opaque object, whose options can neither be set nor written down. It makes a parser
    of this kind for every class that is chosen, so this holds at any depth.
    """

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Adds the arguments of a class."""
        added: list[str] = super().add_class_arguments(*args, **kwargs)
        for action in self._actions:
            if isinstance(action.default, partial):
                action.default = spec(action.default, action.dest)
        return added
