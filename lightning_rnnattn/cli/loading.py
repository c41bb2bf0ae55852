"""What the commands share that start from a checkpoint alone."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from lightning_rnnattn.cli.early import import_modules
from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.errors import UserError


def add_checkpoint_options(parser: PlainParser, what: str) -> None:
    """Adds the options that say which model it is.

    Args:
        parser: of a command.
        what: the kind of model, as in "the checkpoint of …".
    """
    parser.add_argument("--ckpt_path", required=True, help=f"the checkpoint of {what}")
    add_import_option(parser)


def add_import_option(parser: PlainParser) -> None:
    """Adds the option that names modules for `import_modules`."""
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module of yours to import first",
    )


def add_model_options(parser: PlainParser, what: str) -> None:
    """Adds the options that say which model runs where; see `add_checkpoint_options`."""
    add_checkpoint_options(parser, what)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, … (default: a GPU where there is one)")


def add_int8_option(parser: PlainParser) -> None:
    """Adds the option that has `load_model` round the output layer."""
    parser.add_argument(
        "--int8", action="store_true", help="multiply by the vocabulary in 8 bits, on a CPU: faster where it is large"
    )


def load_model(options: Namespace) -> Any:
    """The model that the options name, in evaluation mode, on its device.

    Args:
        options: what a parser with `add_model_options` found.

    Raises:
        UserError: for a device or a checkpoint that cannot be used, or for ``--int8`` where it is not to be had.
    """
    import torch

    from lightning_rnnattn.modules import load

    import_modules(options.modules)
    int8 = getattr(options, "int8", False)
    name = options.device or ("cuda" if torch.cuda.is_available() and not int8 else "cpu")
    try:
        torch.zeros(1, device=name).cpu()  # there may be a name, but no such device
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    model = load(options.ckpt_path, map_location=torch.device(name))
    if int8:
        _round_output(model)
    return model


def _round_output(model: Any) -> None:
    from torch import nn

    from lightning_rnnattn.layers import Int8Linear
    from lightning_rnnattn.modules import SequenceModule

    # A model may have others inside. An output layer of a class of its own does what it does.
    modules = [
        module
        for module in model.modules()
        if isinstance(module, SequenceModule) and type(getattr(module, "output", None)) is nn.Linear
    ]
    if not modules:
        raise UserError(f"--int8: {type(model).__name__} has no plain linear output layer")
    try:
        for module in modules:
            module.output = Int8Linear(module.output)  # type: ignore[arg-type]
    except UserError as error:
        raise UserError(f"--int8: {error}") from error


def reads_lowercase(path: str) -> bool:
    """Whether the model in a checkpoint was trained on text in lower case."""
    from lightning_rnnattn.modules import read_checkpoint

    return bool(read_checkpoint(path).get("datamodule_hyper_parameters", {}).get("lowercase"))


def stdin_lines(what: str) -> Iterator[str]:
    """Standard input as text files are read: UTF-8 whatever the locale, no byte order mark, no ends of lines.

    Args:
        what: what somebody at a terminal is asked to type.

    Raises:
        UserError: at a line that is not UTF-8.
    """
    if sys.stdin.isatty():
        sys.stderr.write(f"Type {what}; Ctrl-D ends.\n")
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"standard input:{number}: not UTF-8 ({error.reason} at byte {error.start})") from None
        yield (text.removeprefix("\ufeff") if number == 1 else text).rstrip("\r\n")


def text_lines(otherwise: str) -> list[str]:
    """The lines of standard input that are not empty.

    Raises:
        UserError: ``otherwise``, where there are none.
    """
    found = [line for line in stdin_lines("texts, one a line") if line]
    if not found:
        raise UserError(otherwise)
    return found
