"""The command line: `fit`, `validate`, `test`, `predict`, and what can be done with a checkpoint.

This module only chooses the subcommand, so that `--help` answers without importing torch.
"""

import importlib
import os
import sys

from lightning_rnnattn.cli.errors import nearest, user_error
from lightning_rnnattn.errors import UserError

TRAINER = "lightning_rnnattn.cli.training"
COMMANDS = {
    "fit": (TRAINER, "train a model, or resume with --ckpt_path"),
    "validate": (TRAINER, "measure a checkpoint on the validation data"),
    "test": (TRAINER, "measure a checkpoint on the test data"),
    "predict": (TRAINER, "write what a checkpoint says about each document to a file"),
    "generate": ("lightning_rnnattn.cli.generate", "continue prompts with a language model"),
    "translate": ("lightning_rnnattn.cli.translate", "write a line for each line on standard input"),
    "inspect": ("lightning_rnnattn.cli.inspect", "write a page that shows where a model looks"),
    "describe": ("lightning_rnnattn.cli.describe", "show a model's layers, parameters, FLOPs and memory"),
    "ensemble": ("lightning_rnnattn.cli.ensemble", "make one model of several that were trained apart"),
    "export": ("lightning_rnnattn.cli.export", "write a checkpoint's model in another format"),
    "ledger": ("lightning_rnnattn.cli.ledger", "make a table of runs, beside what was published"),
    "recipes": ("lightning_rnnattn.cli.recipes", "list the shipped configs and recipes, or copy one"),
}

USAGE = """\
usage: lightning_rnnattn [--help] [--version] COMMAND [options]

Recurrent networks with attention, trained from YAML.

commands:
{commands}

  lightning_rnnattn COMMAND --help        the options of a command
  lightning_rnnattn COMMAND --import M    first imports the module M (a file M.py in the working directory), so that
                                          its classes can be named in YAML and found in checkpoints

first steps:
  lightning_rnnattn fit --config quickstart.yaml
  lightning_rnnattn recipes\
"""


def main(args: list[str] | None = None) -> None:
    """Runs the command line.

    Args:
        args: what follows the program's name; `sys.argv[1:]` where None.

    Raises:
        SystemExit: with code 2, after one line on stderr, for input that cannot be used.
    """
    args = sys.argv[1:] if args is None else list(args)
    try:
        _run(args)
    except BrokenPipeError:  # whoever reads the output, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain as it exits
        raise SystemExit(1) from None
    except Exception as error:
        reason = user_error(error)
        if reason is None:
            raise
        sys.stderr.write(f"error: {' '.join(str(reason).split())}\n")
        raise SystemExit(2) from None


def _run(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        print(USAGE.format(commands="\n".join(f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items())))
        return
    if args[0] == "--version":
        from lightning_rnnattn import __version__

        print(f"lightning_rnnattn {__version__}")
        return
    command, *rest = args
    if command not in COMMANDS:
        raise UserError(f"no command {command!r}{nearest(command, COMMANDS)}; the commands are {', '.join(COMMANDS)}")
    if os.getcwd() not in sys.path:  # a console script has its own folder there instead
        sys.path.insert(0, os.getcwd())
    importlib.import_module(COMMANDS[command][0]).run(command, rest)
