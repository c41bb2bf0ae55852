"""fit, validate, test and predict: Lightning's own command line, with checkpoints that know what they are."""

import logging
import shlex
import warnings
from argparse import ArgumentError
from dataclasses import replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

# Imported for their names, too: jsonargparse finds a class by its short name only once its module is loaded.
import lightning_rnnattn.data
import lightning_rnnattn.layers
import lightning_rnnattn.scores  # noqa: F401
from lightning_rnnattn.cli.callbacks import BY_DEFAULT, always, classes
from lightning_rnnattn.cli.checkpoints import (
    REQUEUED,
    SEARCHED,
    CheckpointSettings,
    earlier_checkpoint,
    go_on_logging,
    load_weights,
)
from lightning_rnnattn.cli.config import ConfigFile, SaveConfig
from lightning_rnnattn.cli.early import EarlyOptions, early_options, import_modules
from lightning_rnnattn.cli.errors import user_error
from lightning_rnnattn.cli.instantiators import DataInstantiator, ModelInstantiator, optional_model_arguments
from lightning_rnnattn.cli.messages import short_message
from lightning_rnnattn.cli.nulls import check_nulls
from lightning_rnnattn.cli.outputs import check_output, check_writable
from lightning_rnnattn.cli.processes import (
    AGAIN,
    end_without_others,
    exit_code,
    leave_process_group,
    lost_process,
    speak_for_others,
)
from lightning_rnnattn.errors import UserError, require_at_least_one, require_seed
from lightning_rnnattn.modules import SequenceModule, read_checkpoint
from lightning_rnnattn.spec import spec

PARSER = {"prog": "lightning_rnnattn", "exit_on_error": False, "allow_abbrev": False}

DEFAULTS: dict[str, dict[str, Any]] = {
    "fit": {
        "trainer.logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": ""}},
        "trainer.callbacks": BY_DEFAULT,
    },
    "validate": {"trainer.logger": False},  # the result is printed; a folder for each would hide those of runs
    "test": {"trainer.logger": False},
    "predict": {"trainer.logger": False, "return_predictions": False},
}


def run(command: str, args: list[str]) -> None:
    """Runs `fit`, `validate`, `test` or `predict`.

    Args:
        command: which of them.
        args: the command line after it.

    Raises:
        UserError: settings, files or a checkpoint that cannot be used.
        SystemExit: where the run was stopped, with the code of `exit_code`, or lost one of its processes.
    """
    early = early_options(args)
    import_modules(early.modules)
    code: int | str | None = None
    speak_for_others()
    try:
        with warnings.catch_warnings():
            _silence(command)
            TrainingCLI(command, args, early)
    except SystemExit as stop:
        code = exit_code(stop)
        if code != AGAIN:
            raise SystemExit(code) from None
    leave_process_group()
    if code is not None:
        raise SystemExit(code)


def _silence(command: str) -> None:
    """Leaves out what Lightning says that no user of this program can act upon."""
    warnings.filterwarnings("ignore", message="`isinstance\\(treespec, LeafSpec\\)` is deprecated")
    # What a data module without validation data says to Lightning.
    warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
    # Every module of this package has the hook, but only a strategy that shards uses it.
    warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback with a model that overrides")
    if command != "fit":
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used to create")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in record.getMessage()


class TrainingCLI(LightningCLI):
    """LightningCLI for any `SequenceModule` and any `LightningDataModule`.

    It differs from Lightning's own in what a checkpoint means. With `--ckpt_path` (and `--init_from`, data and schedule
    excepted) the settings in the checkpoint are *defaults*: YAML and flags win, and nothing need be repeated. Its
    vocabularies go into the data module. And an argument that the model requires but nobody gave, such as `vocab_size`,
    is asked of the data module under the same name (`ModelInstantiator`).

    Args:
        command: the subcommand.
        args: the command line after it.
        early: those of its options that must be known first.
    """

    def __init__(self, command: str, args: list[str], early: EarlyOptions) -> None:
        self.command = command
        self.typed = shlex.join([command, *args])
        self.early = early
        self.checkpoint = CheckpointSettings.of(early)
        super().__init__(
            SequenceModule,
            LightningDataModule,
            save_config_callback=SaveConfig if command == "fit" else None,
            seed_everything_default=0,
            parser_kwargs={**PARSER, command: {**PARSER}},  # a copy, to which Lightning adds the description
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=[command, *args],
            auto_configure_optimizers=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the one that runs, since each costs time to set up."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Makes a parser whose `--config` also finds what the package ships."""
        parser = LightningArgumentParser(**kwargs)
        parser.add_argument(
            "-c", "--config", action=ConfigFile, help="A YAML file, or a shipped one's name; repeatable."
        )
        parser.add_argument("--import", action="append", help="A module of yours to import first; repeatable.")
        return parser

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds trainer, data and model, in the order in which they are built: the model asks the data for sizes."""
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
        parser.add_lightning_class_args(SequenceModule, "model", subclass_mode=True)
        optional_model_arguments(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what Lightning's own do not have."""
        parser.add_argument("--quiet", action="store_true", help="Print results and warnings, and nothing else.")
        if self.command == "fit":
            parser.add_argument("--init_from", type=str | None, help="Start anew from this checkpoint's weights.")
        if self.command == "predict":
            parser.add_argument(
                "--output", default="predictions.jsonl", help="The file to write, a line for each document or example."
            )
            parser.add_argument("--attention", action="store_true", help="Write where the model looked, too.")

    def defaults(self) -> dict[str, Any]:
        """What is taken where neither YAML nor flags say otherwise."""
        return {"weights_only": True, **DEFAULTS[self.command], **self.checkpoint.defaults}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses, without Lightning's warning that `sys.argv` has arguments too; what is wrong becomes one line."""
        self._parser(self.command).set_defaults(self.defaults())
        try:
            self.config = parser.parse_args(args)
            if self._other_data():  # whose class shares argument names with the checkpoint's, but not their values
                self._parser(self.command).set_defaults({"data": None})
                self.config = parser.parse_args(args)
            self._settle_callbacks(parser, args)
            # Defaults in Python, which jsonargparse cannot write down.
            if partials := _partials(self.config[self.command].model):
                self.config = parser.parse_object({self.command: {"model": partials}}, self.config)
        except ArgumentError as error:
            message = short_message(str(error), self._parser(self.command))
            if message.startswith("--data is missing") and self.checkpoint.shapes is not None:
                message += f"; {self.early.ckpt_path} records none, as its data module is no RecordedDataModule"
            raise UserError(message) from error
        for key in ("model", "data", "trainer.callbacks", "trainer.logger"):
            check_nulls(self.config[self.command].get(key), key)
        require_seed("", seed_everything=self.config[self.command].seed_everything)
        trainer = self.config[self.command].trainer
        require_at_least_one("trainer.", accumulate_grad_batches=trainer.accumulate_grad_batches)
        clip = trainer.gradient_clip_val
        if clip is not None and not clip >= 0:
            raise UserError(f"trainer.gradient_clip_val is {clip}: it must be 0 (no clipping) or more")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Makes the trainer, which checks most of its settings itself."""
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"trainer: {error}") from error

    def _other_data(self) -> bool:
        default = self.checkpoint.defaults.get("data")
        if default is None:
            return False
        return resolve_name(self.config[self.command].data.class_path) is not resolve_name(default["class_path"])

    def _settle_callbacks(self, parser: LightningArgumentParser, args: Any) -> None:
        """Makes a list of a single callback, and lets one that is added to the defaults replace that of its class."""
        trainer = self.config[self.command].trainer
        if isinstance(trainer.callbacks, Namespace):
            trainer.callbacks = [trainer.callbacks]
        kinds = classes(trainer.callbacks)
        if len(set(kinds)) == len(kinds):
            return
        self._parser(self.command).set_defaults({"trainer.callbacks": None})
        given = parser.parse_args(args)[self.command].trainer.callbacks
        defaults = trainer.callbacks[: len(kinds) - len(given)]  # none where a config lists them all
        trainer.callbacks = [one for one in defaults if resolve_name(one.class_path) not in classes(given)] + given

    def _parse_ckpt_path(self) -> None:
        """Does nothing: Lightning's own lets the checkpoint override YAML and flags."""

    def _add_instantiators(self) -> None:
        self.checkpoint.check_data(self.config[self.command].data.get("init_args", {}), self.typed)
        data = DataInstantiator(self, self.checkpoint.vocabularies)
        self.parser.add_instantiator(data, LightningDataModule)
        self.parser.add_instantiator(ModelInstantiator(self, data, self.checkpoint.shapes), SequenceModule)

    def before_instantiate_classes(self) -> None:
        """Adds the callbacks that every run has."""
        self.trainer_defaults["callbacks"] = always(self.command, self.typed, self.config[self.command])

    def before_fit(self) -> None:
        """Lets the model refuse its optimizer and the data's vocabularies before loggers begin; loads `--init_from`."""
        if isinstance(self.model, SequenceModule):
            SequenceModule.configure_optimizers(self.model)
            self.model.take_vocabularies_of(self.datamodule)
        if self.checkpoint.weights is not None:
            load_weights(self.model, self.checkpoint.weights, f"--init_from {self.early.init_from}")
            self.checkpoint = replace(self.checkpoint, weights=None)  # their memory is free from here

    def before_predict(self) -> None:
        """Checks where the output goes; asks the model for its attention, where `--attention` is given."""
        check_output("output", self.config.predict.output, self.config.predict.items())
        check_writable("output", self.config.predict.output)
        if self.config.predict.attention:
            if not hasattr(self.model, "predict_attention"):
                raise UserError(
                    f"--attention: predictions of {type(self.model).__name__} have no weights; lightning_rnnattn"
                    " inspect --ckpt_path ... shows where it looks"
                )
            self.model.predict_attention = True

    def after_predict(self) -> None:
        """Says where the predictions are."""
        rank_zero_info(f"Predictions are in {self.config.predict.output}")

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs it; a lost process ends it with a line, and a refusal before the first step leaves no folder."""
        try:
            super()._run_subcommand(subcommand)
        except Exception as error:
            if isinstance(error, RuntimeError) and lost_process(error):
                end_without_others(getattr(self.trainer.strategy.launcher, "procs", ()))
            if user_error(error) is not None:
                for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                    if isinstance(callback, SaveConfig):
                        callback.forget()
            raise

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        if (name := kwargs.get("ckpt_path")) in SEARCHED:
            kwargs["ckpt_path"] = earlier_checkpoint(self.trainer, self.model, name, needed=subcommand != "fit")
            rank_zero_info(
                f"--ckpt_path {name}: {kwargs['ckpt_path'] or 'there is no earlier run, so this starts anew'}"
            )
        path = kwargs.get("ckpt_path")
        if path in (None, REQUEUED):
            return kwargs
        if subcommand == "fit":
            checkpoint = read_checkpoint(path)
            if "optimizer_states" not in checkpoint:
                raise UserError(f"--ckpt_path {path}: has weights alone, from which --init_from starts a run")
            go_on_logging(self.trainer, checkpoint)
        elif Path(path).is_dir():  # as `export --format safetensors` writes it
            load_weights(self.model, read_checkpoint(path)["state_dict"], f"--ckpt_path {path}")
            del kwargs["ckpt_path"]
        return kwargs


def _partials(chosen: Namespace) -> dict[str, Any]:
    """The partials among what a class is made from, and among what that is made from, in plain data."""
    found: dict[str, Any] = {}
    for name, value in vars(chosen.get("init_args", Namespace())).items():
        if isinstance(value, partial):
            found[name] = spec(value, name)
        elif isinstance(value, Namespace) and "class_path" in value and (inner := _partials(value)):
            found[name] = inner
        elif isinstance(value, list) and any(isinstance(item, Namespace) and _partials(item) for item in value):
            found[name] = [_plain(item, name) for item in value]  # a list is replaced as a whole
    return {"class_path": chosen.class_path, "init_args": found} if found else {}


def _plain(value: Any, name: str) -> Any:
    """Settings in plain data, partials included."""
    if isinstance(value, Namespace):
        return {key: _plain(item, key) for key, item in vars(value).items()}
    return [_plain(item, name) for item in value] if isinstance(value, list) else spec(value, name)
