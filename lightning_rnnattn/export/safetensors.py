"""safetensors: a model's weights, and the rest of its checkpoint as JSON."""

from importlib.util import find_spec
from pathlib import Path

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.modules.checkpoint import read_checkpoint
from lightning_rnnattn.modules.safe_folder import write_folder


def export(path: str, folder: Path) -> None:
    """Writes ``model.safetensors`` and ``config.json``, which `lightning_rnnattn.load` reads.

    Args:
        path: the checkpoint.
        folder: made if it is not there; files of the same names are replaced.

    Raises:
        UserError: if the package is missing.
    """
    if find_spec("safetensors") is None:
        raise UserError("--format safetensors needs safetensors: pip install 'lightning_rnnattn[export]'")
    write_folder(read_checkpoint(path), folder)
