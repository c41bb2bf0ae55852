"""What the commands share that start from a checkpoint alone."""

from argparse import Namespace
from typing import Any

from lightning_rnnattn.cli.early import early_options, import_modules
from lightning_rnnattn.cli.inputs import device
from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.errors import UserError


def add_checkpoint_options(parser: PlainParser, what: str) -> None:
    """Adds the options that say which model it is.

    Args:
        parser: of a command.
        what: the kind of model, as in "the checkpoint of …".
    """
    parser.add_argument("--ckpt_path", required=True, help=f"the checkpoint of {what}")
    parser.add_argument("--import", action="append", metavar="MODULE", help="a module of yours to import first")


def add_model_options(parser: PlainParser, what: str) -> None:
    """Adds the options that say which model runs where; see `add_checkpoint_options`."""
    add_checkpoint_options(parser, what)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: a GPU where there is one)")


def load_model(options: Namespace, args: list[str]) -> Any:
    """The model that the options name, in evaluation mode, on its device.

    Args:
        options: what a parser with `add_model_options` found.
        args: what it found them in.

    Raises:
        UserError: for a device or a checkpoint that cannot be used.
    """
    from lightning_rnnattn.modules import load

    import_modules(early_options(args).modules)
    return load(options.ckpt_path, map_location=device(options.device))


def check_at_least_one(options: Namespace, *names: str) -> None:
    """Checks that numbers are positive.

    Raises:
        UserError: naming the option.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}: it must be at least 1")
