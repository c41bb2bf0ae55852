"""A parser of plain options, for the subcommands that build nothing from YAML."""

import argparse
import re
from typing import NoReturn

from lightning_rnnattn.cli.errors import nearest
from lightning_rnnattn.errors import UserError


class PlainParser(argparse.ArgumentParser):
    """`argparse`, whose errors are one line.

    Args:
        command: the subcommand.
        description: what it does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(f"lightning_rnnattn {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises the message, with the nearest right name where an option is wrong.

        Raises:
            UserError: always.
        """
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            raise UserError(f"no option {unknown[1]}{nearest(unknown[1].split('=')[0], self._option_string_actions)}")
        raise UserError(message.removeprefix("argument "))
