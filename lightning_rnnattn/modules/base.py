"""What every LightningModule of the package shares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping
from copy import deepcopy
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers import Penalized
from lightning_rnnattn.modules.metrics import LossMetric, by_stage
from lightning_rnnattn.modules.rng import collect_rng, set_rng
from lightning_rnnattn.modules.sharding import shard
from lightning_rnnattn.recording import Recorded
from lightning_rnnattn.spec import record, recorded, spec
from lightning_rnnattn.tokenizers import Tokenizer

Made = TypeVar("Made")
Vocabulary = Tokenizer | tuple[str, ...]
"""What ids mean: a tokenizer, or the names of labels."""


class Loss(NamedTuple):
    """A batch's loss as a sum, so that batches and ranks of any size add up rightly.

    Attributes:
        total: summed loss, in nats.
        weight: how many tokens (or sequences) it sums over, or the sum of their weights.
    """

    total: Tensor
    weight: Tensor


class SequenceModule(Recorded, L.LightningModule, ABC):
    """Base of the package's LightningModules: optimisation, self-describing checkpoints, losses right under DDP.

    A subclass implements `step`; training, validation and test follow, with ``train_loss``, ``val_loss`` and
    ``test_loss``. To measure more, it overrides `evaluate`. Its ``__init__`` may take plain data, classes and
    ``functools.partial`` of classes, and hand to the base what it likes: its own arguments are recorded in the
    checkpoint as plain data, from Python and the command line alike, and `lightning_rnnattn.load` makes the module
    again from them.

    Args:
        optimizer: makes the optimizer from the parameters; AdamW with torch's defaults where None.
        lr_scheduler: makes the scheduler from the optimizer; none where None. It steps once an epoch, or once a step
            if it has an attribute ``interval = "step"``, as those in `lightning_rnnattn.modules.schedulers` do.
            ``ReduceLROnPlateau`` is Lightning's, with its ``monitor``.

    Attributes:
        vocabularies: names of attributes that say what ids mean. Each is taken from the data module's attribute of that
            name, travels in the checkpoint, and is None until it is known.
        changeable: names of arguments that are no part of what the weights mean: a run may go on with others
            (``--ckpt_path last`` finds it).
    """

    changeable: ClassVar[tuple[str, ...]] = ("optimizer", "lr_scheduler")
    vocabularies: ClassVar[tuple[str, ...]] = ("tokenizer",)
    tokenizer: Tokenizer | None

    def __init__(
        self, optimizer: OptimizerCallable | None = None, lr_scheduler: LRSchedulerCallable | None = None
    ) -> None:
        super().__init__()
        self.optimizer_factory = optimizer
        self.lr_scheduler_factory = lr_scheduler
        for name in self.vocabularies:
            setattr(self, name, None)
        self.losses = by_stage(self.build_losses)
        self._ranks: list[dict[str, Any]] = []
        self.save_hyperparameters()

    @abstractmethod
    def step(self, batch: Any, stage: str) -> Loss:
        """Computes the loss of a batch; override it to change what is learnt.

        Args:
            batch: from the data module.
            stage: "train", "val" or "test".
        """

    def build_losses(self) -> dict[str, Metric]:
        """Makes a stage's metrics of the loss; each is updated with a batch's summed loss, and its weight.

        The network is not made yet when this is called.
        """
        return {"loss": LossMetric()}

    def dry_loss(self, rows: int, length: int) -> Tensor:
        """The loss of made-up examples, computed as in training; `lightning_rnnattn describe` measures what it costs.

        It must not look at values: the module may lie on the meta device.

        Args:
            rows: how many examples.
            length: tokens of each (of each side, where there are two).
        """
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Mean loss per item over the global batch: ranks with fewer items weigh less.

        ``train_loss`` is that of the own rank's batch, label smoothing included, penalties of layers (`Penalized`) not.
        """
        total, weight = self.step(batch, "train")
        self.log("train_loss", total.detach() / _no_zero(weight), prog_bar=True, batch_size=1)
        world_size = self.trainer.world_size
        if world_size > 1:
            # DDP averages gradients over ranks; wanted is the sum of totals over the sum of weights.
            total = total * world_size
            weight = self.trainer.strategy.reduce(weight.clone(), reduce_op="sum")
        penalties = [module.penalty() for module in self.modules() if isinstance(module, Penalized)]
        return sum(penalties, total / _no_zero(weight))

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Measures a batch of the validation set; see `evaluate`."""
        return self.evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Measures a batch of the test set; see `evaluate`."""
        return self.evaluate(batch, "test")

    def evaluate(self, batch: Any, stage: str) -> Any:
        """Updates and logs the metrics of a stage, "val" or "test", with a batch: here, those of the loss.

        Returns:
            What callbacks are handed.
        """
        self.log_loss(self.step(batch, stage), stage)

    def log_loss(self, loss: Loss, stage: str) -> None:
        """Updates the metrics of a stage's loss; what is made from it is shown on the progress bar."""
        self.log_metrics(self.losses, stage, *loss, shown=self.losses[stage].keys() - {"loss"})  # type: ignore[operator]

    def log_metrics(
        self, metrics: nn.ModuleDict, stage: str, *arguments: Any, shown: Container[str] | None = None
    ) -> None:
        """Updates the metrics of a stage, and shows some on the progress bar.

        Args:
            metrics: see `lightning_rnnattn.modules.metrics.by_stage`.
            stage: "val" or "test".
            arguments: what each metric is updated with.
            shown: names of those on the progress bar; None for all.
        """
        for name, metric in metrics[stage].items():  # type: ignore[operator]
            metric.update(*arguments)
            self.log(f"{stage}_{name}", metric, prog_bar=shown is None or name in shown, batch_size=1)

    def configure_model(self) -> None:
        """Spreads the module over the processes, where the strategy is `Sharded` (or another of its kind).

        Raises:
            UserError: if weights are to be averaged, too, which takes a whole copy of them.
        """
        if self.device_mesh is None:
            return
        if any(isinstance(callback, WeightAveraging) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise UserError("trainer.callbacks: averages of weights need whole weights: use the strategy ddp with them")
        shard(self, self.device_mesh)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and scheduler that were asked for.

        Raises:
            UserError: if they do not take their options.
        """
        factory = self.optimizer_factory or torch.optim.AdamW
        optimizer = _made("optimizer", factory, self.parameters())
        optimizer.register_load_state_dict_post_hook(_check_options)
        if self.lr_scheduler_factory is None:
            return optimizer
        scheduler = _made("lr_scheduler", self.lr_scheduler_factory, optimizer)
        config: dict[str, Any] = {"scheduler": scheduler, "interval": _interval(scheduler)}
        if isinstance(scheduler, ReduceLROnPlateau):
            config["monitor"] = scheduler.monitor
        return {"optimizer": optimizer, "lr_scheduler": config}  # type: ignore[return-value]

    def setup(self, stage: str) -> None:
        """Takes the data module's vocabularies, which then travel in the checkpoint.

        Raises:
            UserError: if the module came with another vocabulary than the data's.
        """
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()  # `Trainer.validate` left them tensors of inference mode, which a fit cannot add to
        self._ranks = []  # of a checkpoint that was merely loaded; one that is resumed is read after this
        self.take_vocabularies_of(getattr(self.trainer, "datamodule", None))

    def take_vocabularies_of(self, data: Any) -> None:
        """Takes what a data module, or None, knows of `vocabularies`; see `take_vocabularies`."""
        self.take_vocabularies({name: getattr(data, name, None) for name in self.vocabularies})

    def take_vocabularies(self, vocabularies: Mapping[str, Vocabulary | None]) -> None:
        """Takes what is known of `vocabularies`, by name.

        Raises:
            UserError: if the module has another already.
        """
        for name in self.vocabularies:
            new, own = vocabularies.get(name), getattr(self, name)
            if new is None:
                continue
            if own is not None and own != new:
                what = name.replace("_", " ")
                raise UserError(
                    f"the data's {what} {'are' if what.endswith('s') else 'is'} not what this model was trained with: "
                    f"set datamodule.{name} = model.{name} before the trainer starts"
                )
            setattr(self, name, new)

    def to_spec(self) -> dict[str, Any]:
        """What the module was made from, as YAML has it, so that it can be an argument of another (`Ensemble`)."""
        made = recorded(self.hparams)
        assert made is not None
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy, of weights that are averaged say; it shares the factories.

        From the command line these hold on to the data, the trainer and the processes that it started.
        """
        for factory in (self.optimizer_factory, self.lr_scheduler_factory):
            memo[id(factory)] = factory
        memo[id(self)] = copied = type(self).__new__(type(self))
        copied.__setstate__(deepcopy(self.__getstate__(), memo))
        return copied

    def rank_state(self) -> dict[str, Any]:
        """What this process alone knows and a resumed run needs: nested tuples and dicts of tensors, or None.

        Override it, and `restore_rank_state`, where training carries more than weights from batch to batch.
        """
        return {"rng": collect_rng()}

    def restore_rank_state(self, state: dict[str, Any]) -> None:
        """Takes up `rank_state` where a run is resumed, just before its next batch."""
        set_rng(state["rng"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the vocabularies into the checkpoint, and the `rank_state` of every rank."""
        checkpoint["vocabularies"] = {
            name: vocabulary.to_str() if isinstance(vocabulary, Tokenizer) else list(vocabulary)
            for name in self.vocabularies
            if (vocabulary := getattr(self, name)) is not None
        }
        own = self.rank_state()
        ranks = [own]
        if self.trainer.world_size > 1:
            everyone = self.all_gather(own)
            ranks = [
                apply_to_collection(everyone, Tensor, lambda x, rank=rank: x[rank].clone())
                for rank in range(self.trainer.world_size)
            ]
        checkpoint["ranks"] = ranks

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the vocabularies out of the checkpoint, and keeps the rank states until training goes on."""
        self.take_vocabularies(saved_vocabularies(checkpoint))
        self._ranks = checkpoint.get("ranks", [])

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Takes up the rank state of the checkpoint that the run is resumed from."""
        if len(self._ranks) == self.trainer.world_size:
            self.restore_rank_state(self._ranks[self.global_rank])
        self._ranks = []

    def _set_hparams(self, hp: Any) -> None:
        # The one place that every way of recording arguments passes, a subclass's save_hyperparameters(), too. From the
        # command line they are plain already; what Lightning collects in Python would be pickled into the checkpoint.
        arguments = self.take_arguments()
        if "_class_path" in hp:
            arguments = hp
        if arguments is not None:
            super()._set_hparams(record(type(self), {name: spec(value, name) for name, value in arguments.items()}))


def saved_vocabularies(checkpoint: Mapping[str, Any]) -> dict[str, Vocabulary]:
    """The vocabularies in a checkpoint, by the name of the attribute that they were."""
    return {
        name: Tokenizer.from_str(saved) if isinstance(saved, str) else tuple(map(str, saved))
        for name, saved in checkpoint.get("vocabularies", {}).items()
    }


def _made(key: str, factory: Callable[[Any], Made], argument: Any) -> Made:
    try:
        return factory(argument)
    except (ValueError, TypeError) as error:
        raise UserError(f"model.{key}: {error}") from error


def _check_options(optimizer: torch.optim.Optimizer) -> None:
    """Refuses a state that was loaded, where it is another optimizer's: the next step would miss an option."""
    if lacking := [name for name in optimizer.defaults for group in optimizer.param_groups if name not in group]:
        raise UserError(
            f"model.optimizer: the checkpoint has the state of another optimizer than {type(optimizer).__name__} (it "
            f"lacks {lacking[0]!r}): go on with the same, or start anew from its weights with --init_from"
        )


def _no_zero(weight: Tensor) -> Tensor:
    """What to divide a sum by: 1 where nothing counts, since the sum is zero then."""
    return weight.masked_fill(weight == 0, 1)


def _interval(scheduler: Any) -> str:
    """How often a scheduler steps; torch's cyclic ones count batches."""
    cyclic = isinstance(scheduler, (torch.optim.lr_scheduler.OneCycleLR, torch.optim.lr_scheduler.CyclicLR))
    return getattr(scheduler, "interval", "step" if cyclic else "epoch")
