"""What every LightningModule of the package shares."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container
from copy import deepcopy
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.layers import Penalized
from lightning_rnnattn.modules.checkpointed import CheckpointedModule
from lightning_rnnattn.modules.metrics import LossMetric, by_stage
from lightning_rnnattn.modules.sharding import shard

Made = TypeVar("Made")


class Loss(NamedTuple):
    """A batch's loss as a sum, so that batches and ranks of any size add up rightly.

    Attributes:
        total: summed loss, in nats.
        weight: how many tokens (or sequences) it sums over, or the sum of their weights.
    """

    total: Tensor
    weight: Tensor


class SequenceModule(CheckpointedModule, ABC):
    """Base of the package's LightningModules: optimisation, self-describing checkpoints, losses right under DDP.

    A subclass implements `step`; training, validation and test follow, with ``train_loss``, ``val_loss`` and
    ``test_loss``. To measure more, it overrides `evaluate`. For its arguments see `CheckpointedModule`.

    Args:
        optimizer: makes the optimizer from the parameters; AdamW with torch's defaults where None.
        lr_scheduler: makes the scheduler from the optimizer; none where None. It steps once an epoch, or once a step
            if it has an attribute ``interval = "step"``, as those in `lightning_rnnattn.modules.schedulers` do.
            ``ReduceLROnPlateau`` is Lightning's, with its ``monitor``.

    Attributes:
        changeable: names of arguments that are no part of what the weights mean: a run may go on with others
            (``--ckpt_path last`` finds it).
    """

    changeable: ClassVar[tuple[str, ...]] = ("optimizer", "lr_scheduler")

    def __init__(
        self, optimizer: OptimizerCallable | None = None, lr_scheduler: LRSchedulerCallable | None = None
    ) -> None:
        super().__init__()
        self.optimizer_factory = optimizer
        self.lr_scheduler_factory = lr_scheduler
        self.losses = by_stage(self.build_losses)

    @abstractmethod
    def step(self, batch: Any, stage: str) -> Loss:
        """Computes the loss of a batch; override it to change what is learnt.

        Args:
            batch: from the data module.
            stage: "train", "val" or "test".
        """

    def check_batch(self, batch: Any, has: str, way: str) -> None:
        """Says what data the module learns from, where it is given other data.

        Args:
            batch: from the data module.
            has: an attribute that the batch must have.
            way: what the module learns, from what, and what to set.

        Raises:
            UserError: if the batch lacks it.
        """
        if not hasattr(batch, has):
            raise UserError(f"the data gives {type(batch).__name__}, and {type(self).__name__} {way}")

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
        """Takes the data module's vocabularies; see `CheckpointedModule.setup`."""
        for metric in self.modules():
            if isinstance(metric, Metric):
                metric.reset()  # `Trainer.validate` left them tensors of inference mode, which a fit cannot add to
        super().setup(stage)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy, of weights that are averaged say; it shares the factories.

        From the command line these hold on to the data, the trainer and the processes that it started.
        """
        for factory in (self.optimizer_factory, self.lr_scheduler_factory):
            memo[id(factory)] = factory
        memo[id(self)] = copied = type(self).__new__(type(self))
        copied.__setstate__(deepcopy(self.__getstate__(), memo))
        return copied


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
