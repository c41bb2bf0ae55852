"""Which labels are taken for which, as a picture."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from lightning_rnnattn.callbacks.confusion_figure import confusion_figure
from lightning_rnnattn.callbacks.figures import save_figure
from lightning_rnnattn.callbacks.run import RunCallback, log_image, require, writes
from lightning_rnnattn.ops.cross_entropy import IGNORE


class ConfusionMatrix(RunCallback):
    """Draw the confusion matrix at the end of every validation and test, into ``confusion/`` in the run's folder.

    Protocol: ``validation_step`` and ``test_step`` return a dict with ``predicted`` and ``actual``, int64 of the same
    shape, -100 in ``actual`` where nothing counts; and the module has ``label_names``. Where a sequence may have
    several labels (``predicted`` is bool) there is no such matrix, and nothing is drawn.

    Args:
        max_labels: with more labels than this, the least frequent ones are left out of the picture.

    Raises:
        UserError: when the fit starts, or else the validation or test, if the module has no ``label_names``.
    """

    _counts: Tensor

    def __init__(self, max_labels: int = 40) -> None:
        self.max_labels = max_labels

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module without labels before training: a validation may come after an epoch."""
        require(self, pl_module, "label_names")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count; on every rank, since one may have no batch."""
        module: Any = pl_module
        require(self, module, "label_names")
        size = len(module.label_names)
        self._counts = torch.zeros(size, size, dtype=torch.int64, device=module.device)

    on_test_start = on_validation_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count."""
        self._count(outputs)

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self._draw(trainer, pl_module, "test")

    def _count(self, outputs: Mapping[str, Tensor]) -> None:
        if outputs["predicted"].dtype == torch.bool:
            rank_zero_warn("ConfusionMatrix draws nothing: a sequence may have several labels")
        else:
            predicted, actual = outputs["predicted"].flatten(), outputs["actual"].flatten()
            size = len(self._counts)
            self._counts += multiclass_confusion_matrix(
                predicted, actual, size, ignore_index=IGNORE, validate_args=False
            )

    def _draw(self, trainer: Trainer, module: Any, stage: str) -> None:
        counts = trainer.strategy.reduce(self._counts, reduce_op="sum").cpu().numpy()  # of all ranks
        if trainer.sanity_checking or not writes(trainer) or not counts.any():
            return
        self.path = self.folder / "confusion" / f"{stage}_step{trainer.global_step:07d}.png"
        most = (-counts.sum(1)).argsort(kind="stable")[: self.max_labels]
        most.sort()
        figure = confusion_figure(
            counts[most][:, most],
            [module.label_names[label] for label in most],
            title="What was taken for what",
            subtitle=f"{stage}, step {trainer.global_step} · {counts.trace() / counts.sum():.1%} right",
        )
        save_figure(figure, self.path)
        if stage == "val":
            log_image(trainer, "confusion", self.path, caption=f"step {trainer.global_step}")
