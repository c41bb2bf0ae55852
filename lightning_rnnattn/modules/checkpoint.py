"""Opening checkpoints without running what they say."""

import copy
import io
import pickle
import re
import struct
from argparse import ArgumentError
from collections.abc import Callable, Mapping
from pathlib import Path
from pkgutil import resolve_name
from textwrap import shorten
from typing import IO, Any

import lightning.pytorch as L
import torch
from lightning.pytorch.cli import instantiate_module
from torch import nn

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
        UserError: if there is no such file, it is no checkpoint of a LightningModule, it names a class that is not
            trusted, or its tensors claim more numbers than it has.
    """
    checkpoint = read_folder(Path(path), map_location) if Path(path).is_dir() else _read_file(path, map_location)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path}: not a checkpoint of a LightningModule (it has no state_dict)")
    _check_weights(path, checkpoint["state_dict"])
    for key in ("hyper_parameters", "datamodule_hyper_parameters", "vocabularies"):
        if not isinstance(checkpoint.get(key, {}), Mapping):
            raise UserError(f"{path}: not a checkpoint of a LightningModule (its {key} are no mapping)")
    for name, vocabulary in checkpoint.get("vocabularies", {}).items():
        if not isinstance(vocabulary, (str, list)):
            raise UserError(f"{path}: its vocabulary {name!r} is neither a tokenizer nor a list of labels")
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
    named = resolve_name(hparams["_class_path"])
    if not (isinstance(named, type) and issubclass(named, L.LightningModule)):
        raise UserError(f"{path}: names {hparams['_class_path']}, which is no LightningModule")
    # A copy, since instantiating puts objects in place of the plain data in it.
    arguments = copy.deepcopy({name: value for name, value in hparams.items() if name != "_instantiator"})
    try:
        if wrong := misfit(lambda: instantiate_module(L.LightningModule, arguments), shapes(checkpoint["state_dict"])):
            raise UserError(f"{path}: does not fit {hparams['_class_path']}: {wrong}")
        source: str | Path | IO[bytes] = path
        if Path(path).is_dir():  # Lightning reads files only
            source = io.BytesIO()
            torch.save(checkpoint, source)
            source.seek(0)
        module = L.LightningModule.load_from_checkpoint(source, map_location=map_location, weights_only=True)
    except UserError:
        raise
    except (ArgumentError, ValueError, RuntimeError, TypeError, KeyError) as error:
        # Arguments, or weights, that the class does not have.
        raise UserError(f"{path}: does not fit {hparams['_class_path']}: {_innermost(error)}") from error
    return module.eval()


def _read_file(path: str | Path, map_location: str | torch.device) -> Any:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint file")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a checkpoint that can be opened safely ({reason})") from error
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, struct.error) as error:
        # torch's own words would have the file loaded without care.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it would import {named[1]}" if named else "it is damaged, or no checkpoint at all"
        raise UserError(f"{path}: not a checkpoint that can be opened safely ({reason})") from error


def _innermost(error: BaseException) -> str:
    """What an error is about, without what is told around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return shorten(str(error), 200)


def shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    """The shapes of weights, by name."""
    return {name: tensor.shape for name, tensor in weights.items()}


def misfit(build: Callable[[], nn.Module], expected: Mapping[str, torch.Size]) -> str | None:
    """What does not fit between a module and weights for it, found before memory is allocated for the module.

    Args:
        build: makes the module.
        expected: the shapes of the weights.

    Returns:
        The first name that only one side has, or whose shape differs; None where all fit, or where the module cannot
        be built without its numbers.
    """
    try:
        with torch.device("meta"):
            own = shapes(build().state_dict())
    except NotImplementedError:  # it looks at numbers while it is being built
        return None
    for name in [*own, *expected]:
        if own.get(name) != expected.get(name):
            if name not in own or name not in expected:
                return f"{name} is only in the {'model' if name in own else 'checkpoint'}"
            return (
                f"size mismatch for {name}: {tuple(expected[name])} in the checkpoint, {tuple(own[name])} in the model"
            )
    return None


def _check_weights(path: str | Path, weights: Any) -> None:
    if not isinstance(weights, dict):
        raise UserError(f"{path}: not a checkpoint of a LightningModule (its state_dict is no dictionary)")
    for name, tensor in weights.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise UserError(f"{path}: not a checkpoint of a LightningModule ({name} is no dense tensor)")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise UserError(f"{path}: {name} claims {tensor.numel():,} numbers, more than the file has")
