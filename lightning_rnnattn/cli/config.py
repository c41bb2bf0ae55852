"""Configurations: read by name, saved with the run."""

import json
import shutil
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.callbacks.run import run_dir
from lightning_rnnattn.cli.early import import_modules
from lightning_rnnattn.cli.errors import nearest, subclass_names
from lightning_rnnattn.cli.resources import find_config, read_yaml
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.loggers import WandbRun
from lightning_rnnattn.modules import SequenceModule

WANDB_RUN = "wandb_run"
"""The key of a W&B run's id in a checkpoint."""

OF_A_START = ("config.yaml", "hparams.yaml", "run.json", "events.out.tfevents.")
"""How the names of the files begin that a run and its logger write before the first step."""


class ConfigFile(ActionConfigFile):
    """`--config`: a YAML file, a shipped one by name, or a part.

    A part is the YAML of one class (`class_path` and `init_args` at its top). It can be referred to from another file
    (`model: ../model/lstm.yaml`) and, since its class says whether it is a model or data, given to `--config` as well.
    """

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Applies one configuration."""
        if not values.lstrip().startswith("{"):
            path = find_config(values)
            settings = read_yaml(path) or {}
            _check_classes(settings, path)
            path = path.absolute()
            if isinstance(settings.get("trainer"), list):  # of which nothing would be used, and nothing said
                raise UserError(f"--config {path}: trainer: expected a mapping of settings, not a list")
            key = _key_of(path, settings["class_path"]) if "class_path" in settings else None
            if not settings:  # nothing in it, or comments
                return
            values = json.dumps({key: str(path)}) if key else str(path)
        super().__call__(parser, namespace, values, option_string)


def _check_classes(settings: Any, file: Path, keys: tuple[str, ...] = ()) -> None:
    """Refuses what stands beside a class and is none of its arguments: jsonargparse would blame something else."""
    if (
        isinstance(settings, str)
        and settings.endswith((".yaml", ".yml"))
        and (part := file.parent / settings).is_file()
    ):
        _check_classes(read_yaml(part), part, keys)
    if isinstance(settings, list):
        *parents, last = keys or ("",)
        for i, item in enumerate(settings):
            _check_classes(item, file, (*parents, f"{last}[{i}]"))
    if not isinstance(settings, dict):
        return
    if "class_path" in settings:
        for key in settings:
            if str(key).partition(".")[0] not in ("class_path", "init_args", "dict_kwargs"):
                name = ".".join((*keys, str(key)))
                raise UserError(f"{file}: {name} stands beside class_path: put it under init_args")
    for key, value in settings.items():
        _check_classes(value, file, keys if key == "init_args" else (*keys, str(key)))


def _key_of(part: Path, class_path: str) -> str:
    module, _, name = class_path.rpartition(".")
    if module:
        import_modules((module,))
    for key, base in (("model", SequenceModule), ("data", LightningDataModule)):
        if name in subclass_names(base):
            return key
    known = subclass_names(SequenceModule) | subclass_names(LightningDataModule)
    raise UserError(f"--config {part}: no model or data module {class_path!r}{nearest(name, known)}")


class SaveConfig(SaveConfigCallback):
    """Saves the complete configuration of a run as `config.yaml` in the folder of its logs and checkpoints.

    Lightning's own saves to the logger's `log_dir`, which for W&B is shared by all runs, and so stops the second run.
    """

    def __init__(self, parser: LightningArgumentParser, config: Any, **kwargs: Any) -> None:
        super().__init__(parser, config, **kwargs, save_to_log_dir=False)
        self._can_go = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds the run's folder, which all ranks do together, before rank zero writes."""
        self.folder = run_dir(trainer)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes the file, but never over one that the run was started with; W&B gets it, too."""
        path = self.folder / self.config_filename
        self._can_go = bool(trainer.loggers) and not path.exists()
        if path.exists() and any(given and path.samefile(given) for given in self.config.config or ()):
            rank_zero_warn(f"{path} is the run's --config, and stays as it is: the complete one is not saved")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, path, skip_unset=False, overwrite=True, multifile=False)
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                logger.log_config(path)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the folder from here on, whatever happens."""
        self._can_go = False

    def forget(self) -> None:
        """Removes the folder of a run that was refused before its first step, for its checkpoint's state, say."""
        if self._can_go and all(path.name.startswith(OF_A_START) for path in self.folder.iterdir()):
            shutil.rmtree(self.folder)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes which W&B run this is, so that it goes on where the checkpoint is resumed from."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbRun):
                checkpoint[WANDB_RUN] = logger.version
