"""What the subcommands that read texts share."""

import sys
from typing import Any

from lightning_rnnattn.errors import UserError


def device(name: str | None) -> Any:
    """The torch device of a name; where there is none, a GPU if there is one.

    Raises:
        UserError: there is no such device.
    """
    import torch

    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).cpu()  # there may be a name, but no such device
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def lines(otherwise: str) -> list[str]:
    """The lines of standard input that are not empty.

    Raises:
        UserError: ``otherwise``, where there are none.
    """
    if sys.stdin.isatty():
        sys.stderr.write("Type texts, one a line; Ctrl-D ends.\n")
    found = [line for line in sys.stdin.read().splitlines() if line]
    if not found:
        raise UserError(otherwise)
    return found
