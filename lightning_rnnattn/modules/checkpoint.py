"""Opening checkpoints without running what they say."""

import io
import pickle
from argparse import ArgumentError
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as L
import torch

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.modules.safe_folder import read_folder
from lightning_rnnattn.modules.trust import check_classes


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Reads a checkpoint, and checks that everything that it would import is trusted.

    Tensors and plain data only are unpickled. The classes that it names must lie in this package, in Lightning,
    torch.nn or torch.optim, or in a module that is imported already.

    Args:
        path: the file, or a folder that ``lightning_rnnattn export --format safetensors`` wrote.
        map_location: the device for its tensors.

    Returns:
        Lightning's checkpoint dictionary.

    Raises:
        UserError: if there is no such file, it is no checkpoint of a LightningModule, or it names a class that is not
            trusted.
    """
    checkpoint = read_folder(Path(path), map_location) if Path(path).is_dir() else _read_file(path, map_location)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path}: not a checkpoint of a LightningModule (it has no state_dict)")
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        try:
            check_classes(checkpoint.get(key))
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    return checkpoint


def load(path: str | Path, map_location: str | torch.device = "cpu") -> L.LightningModule:
    """Makes the module that a checkpoint describes, with its weights and its tokenizer.

    Args:
        path: a checkpoint of one of this package's modules, or of a subclass, from the command line or from Python; or
            a folder that ``lightning_rnnattn export --format safetensors`` wrote.
        map_location: the device for its weights.

    Returns:
        The module, of the class that was trained, in evaluation mode.

    Raises:
        UserError: as `read_checkpoint` does, or if the checkpoint does not describe its module, or does not fit it.
    """
    checkpoint = read_checkpoint(path)
    hparams = checkpoint.get("hyper_parameters", {})
    if "_class_path" not in hparams:
        raise UserError(
            f"{path}: does not name the class of its module: open it with that class's load_from_checkpoint"
        )
    try:
        source: str | Path | IO[bytes] = path
        if Path(path).is_dir():  # Lightning reads files only
            source = io.BytesIO()
            torch.save(checkpoint, source)
            source.seek(0)
        module = L.LightningModule.load_from_checkpoint(source, map_location=map_location, weights_only=True)
    except UserError:
        raise
    except (ArgumentError, ValueError, RuntimeError) as error:  # arguments, or weights, that the class does not have
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: does not fit {hparams['_class_path']}: {reason}") from error
    return module.eval()


def _read_file(path: str | Path, map_location: str | torch.device) -> Any:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a checkpoint that can be opened safely ({reason})") from error
