"""What the callbacks share: the run's folder, a look at the model that leaves no trace, pictures for loggers."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng

from lightning_rnnattn.decoding import evaluating
from lightning_rnnattn.errors import UserError


def run_dir(trainer: Trainer) -> Path:
    """The folder of the run: one place for its checkpoints, curves, samples and pictures.

    The first logger's ``log_dir`` where it has one (CSV, TensorBoard); else ``save_dir/name/version`` (W&B: the project
    and the id of the run); without a logger, the trainer's ``default_root_dir``. A collective: rank zero's answer is
    sent to all ranks, so call it on every one of them.
    """
    logger = trainer.logger
    folder: str
    if logger is None:
        folder = trainer.default_root_dir
    elif logger.log_dir is not None:
        folder = logger.log_dir
    else:
        version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
        folder = os.path.join(logger.save_dir or trainer.default_root_dir, logger.name or "", version)
    return Path(trainer.strategy.broadcast(folder))


class RunCallback(Callback):
    """A callback that writes into the run's folder.

    Attributes:
        folder: the run's folder; set when the trainer sets up.
        path: the newest file that the callback wrote, or None. `NextSteps` prints it.
    """

    folder: Path
    path: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run's folder; a fit begins with nothing of another."""
        self.folder = run_dir(trainer)
        if stage == "fit":
            self.reset()

    def reset(self) -> None:
        """Forgets what was gathered in another fit; called before the checkpoint that a fit goes on from is read."""
        self.path = None


def require(callback: Callback, owner: object, *names: str) -> None:
    """Checks that there is what a callback's protocol asks for; to be called before training.

    Args:
        callback: whose protocol it is.
        owner: the module, or what else is to have it.
        names: attributes. What is None is missing, and so is a hook that a module leaves as Lightning has it.

    Raises:
        UserError: if any is missing.
    """
    missing = [
        f"`{name}`"
        for name in names
        if getattr(owner, name, None) is None
        or getattr(type(owner), name, None) is getattr(LightningModule, name, owner)
    ]
    if missing:
        kind = type(callback).__name__
        raise UserError(
            f"{kind}: {type(owner).__name__} has no {' and no '.join(missing)}: leave {kind} out of the callbacks"
        )


def go_behind_others(trainer: Trainer, callback: Callback) -> None:
    """Moves a callback to the end of the trainer's; to be called in `setup`."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    # A new list, because Lightning is walking through the old one right now.
    trainer.callbacks = [*(other for other in callbacks if other is not callback), callback]  # type: ignore[attr-defined]


def writes(trainer: Trainer) -> bool:
    """Whether this process writes files: rank zero, and not in a ``fast_dev_run``."""
    return trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]


def observes(trainer: Trainer) -> bool:
    """Whether this process should run the model for a picture or a sample: the one that writes.

    Where a strategy shards the parameters every rank takes part, since the forward pass itself communicates.
    """
    return writes(trainer) or isinstance(trainer.strategy, (FSDPStrategy, ModelParallelStrategy))


def validates(trainer: Trainer) -> bool:
    """Whether a validation that has just ended belongs to a fit, and is not the sanity check before it."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking


def logs_now(trainer: Trainer, every_n_steps: int | None = None) -> bool:
    """Whether the step that has just ended is one of those that are logged."""
    every: int = every_n_steps or trainer.log_every_n_steps  # type: ignore[attr-defined]
    return trainer.global_step % every == 0 and not trainer.fit_loop._should_accumulate()


@contextmanager
def observing(trainer: Trainer, module: LightningModule) -> Iterator[None]:
    """Use the module in evaluation mode, without gradients and in the trainer's precision, and leave no trace.

    The random streams and every submodule's train/eval mode are afterwards what they were, so that a run trains the
    same with and without the callback.
    """
    with isolate_rng(), torch.no_grad(), evaluating(module), trainer.precision_plugin.forward_context():
        yield


def log_step(trainer: Trainer) -> int:
    """The step under which Lightning logs the metrics of the same moment: pictures and curves line up."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def log_image(trainer: Trainer, key: str, image: Path, caption: str) -> None:
    """Show a PNG file in every logger that can: TensorBoard, and those with a ``log_image`` (W&B)."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            from matplotlib.image import imread

            logger.experiment.add_image(key, imread(image), log_step(trainer), dataformats="HWC")
        elif hasattr(logger, "log_image"):
            logger.log_image(key, [str(image)], step=log_step(trainer), caption=[caption])


def log_html(trainer: Trainer, key: str, page: str) -> None:
    """Show a page that needs no other file in loggers with a ``log_html`` (`WandbRun`)."""
    for logger in trainer.loggers:
        if hasattr(logger, "log_html"):
            logger.log_html(key, page, step=log_step(trainer))


def log_table(trainer: Trainer, key: str, columns: Sequence[str], rows: Sequence[Sequence[object]], text: str) -> None:
    """Show rows as a table in loggers with a ``log_table`` (W&B), and ``text``, in Markdown, in TensorBoard."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(key, text, log_step(trainer))
        elif hasattr(logger, "log_table"):
            logger.log_table(key, columns=list(columns), data=[list(row) for row in rows], step=log_step(trainer))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to that takes the place of ``path`` in one step at the end, so that nobody sees half a file.

    It lies in the same folder, because a rename is atomic only within one file system, and has the same suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
