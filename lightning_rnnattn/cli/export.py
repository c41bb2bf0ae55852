"""`lightning_rnnattn export`: write a checkpoint's model in another format."""

import importlib
import os
from pathlib import Path

from lightning_rnnattn.cli.early import import_modules
from lightning_rnnattn.cli.loading import add_checkpoint_options
from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.errors import UserError

FORMATS = {
    "onnx": "lightning_rnnattn.export.onnx",
    "safetensors": "lightning_rnnattn.export.safetensors",
}
"""By name, the module that writes it."""


def make_parser() -> PlainParser:
    """Makes the parser of the options."""
    parser = PlainParser(
        "export",
        "Write the model in another format. onnx: graphs of one step each, compared with the model before they are "
        "kept. safetensors: weights, and settings as JSON, a folder that lightning_rnnattn.load opens. Both need "
        "pip install 'lightning_rnnattn[export]'.",
    )
    add_checkpoint_options(parser, "a model")
    parser.add_argument("--format", required=True, choices=sorted(FORMATS), help="what to write")
    parser.add_argument("--output", required=True, metavar="FOLDER", type=Path, help="where to; made if missing")
    return parser


def run(command: str, args: list[str]) -> None:
    """Writes the files and names them.

    Raises:
        UserError: for a checkpoint that cannot be read, or a model that cannot be written.
    """
    options = make_parser().parse_args(args)
    if options.output.exists() and not options.output.is_dir():
        raise UserError(f"--output {options.output}: is a file, not a folder")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the ONNX exporter is not sure of shapes; that is seen to
    import_modules(options.modules)
    importlib.import_module(FORMATS[options.format]).export(options.ckpt_path, options.output)
    print(*sorted(options.output.iterdir()), sep="\n")
