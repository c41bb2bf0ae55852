"""A trained model as a folder: its weights in safetensors, the rest in JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lightning_rnnattn.errors import UserError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_FORMAT = "lightning_rnnattn"
_KEPT = ("hyper_parameters", "datamodule_hyper_parameters", "vocabularies", "pytorch-lightning_version")


def write_folder(checkpoint: Mapping[str, Any], folder: Path) -> None:
    """Writes what a checkpoint says of its model; what only training needs is left behind.

    Args:
        checkpoint: from `lightning_rnnattn.modules.read_checkpoint`.
        folder: made if it is not there.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    # Copies, since the format knows no tensor that two names share.
    weights = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in checkpoint["state_dict"].items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    config = {"format": _FORMAT, **{key: checkpoint[key] for key in _KEPT if key in checkpoint}}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_folder(folder: Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The part of a checkpoint that `write_folder` wrote.

    Raises:
        UserError: if the folder is none of those, or safetensors is missing.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise UserError(f"{folder}: needs safetensors: pip install 'lightning_rnnattn[export]'") from None
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict) or config.pop("format", None) != _FORMAT:
            raise UserError(f"{folder}: {CONFIG} is not that of a model of this package")
        return {**config, "state_dict": load_file(folder / WEIGHTS, device=str(map_location))}
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder}: not a folder with a model ({error})") from error
