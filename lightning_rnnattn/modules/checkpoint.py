"""Opening checkpoints without running what they say."""

import importlib
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch

from lightning_rnnattn.errors import UserError

TRUSTED = ("lightning_rnnattn", "lightning.pytorch", "torch.nn", "torch.optim")
"""Packages whose classes a checkpoint may name."""


def read_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Reads a checkpoint, and checks that everything that it would import is trusted.

    Tensors and plain data only are unpickled. The classes that it names must lie in this package, in Lightning,
    torch.nn or torch.optim, or in a module that is imported already.

    Args:
        path: the file.
        map_location: the device for its tensors.

    Returns:
        Lightning's checkpoint dictionary.

    Raises:
        UserError: if there is no such file, it is no checkpoint of a LightningModule, or it names a class that is not
            trusted.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a checkpoint that can be opened safely ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path}: not a checkpoint of a LightningModule (it has no state_dict)")
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        for class_path in _class_paths(checkpoint.get(key)):
            module = class_path.rpartition(".")[0]
            if not any(f"{module}.".startswith(f"{trusted}.") for trusted in TRUSTED) and module not in sys.modules:
                raise UserError(
                    f"{path}: names {class_path}, which is not imported; if you trust it, add --import {module} "
                    f"(in Python: import {module} first)"
                )
    return checkpoint


def load(path: str | Path, map_location: str | torch.device = "cpu") -> L.LightningModule:
    """Makes the module that a checkpoint describes, with its weights and its tokenizer.

    Args:
        path: a checkpoint of one of this package's modules, or of a subclass, from the command line or from Python.
        map_location: the device for its weights.

    Returns:
        The module, of the class that was trained, in evaluation mode.

    Raises:
        UserError: as `read_checkpoint` does, or if the checkpoint does not describe its module.
    """
    hparams = read_checkpoint(path, map_location).get("hyper_parameters", {})
    if "_class_path" not in hparams:
        raise UserError(f"{path}: does not name the class of its module: open it with that class' load_from_checkpoint")
    module = hparams["_class_path"].rpartition(".")[0]
    importlib.import_module(module)
    return L.LightningModule.load_from_checkpoint(path, map_location=map_location, weights_only=True).eval()


def _class_paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("class_path", "_class_path") and isinstance(item, str):
                yield item
            else:
                yield from _class_paths(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _class_paths(item)
