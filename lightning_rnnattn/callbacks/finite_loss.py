"""A run whose loss is no longer a number."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_rnnattn.callbacks.last_checkpoint import LastCheckpoint
from lightning_rnnattn.callbacks.run import observing
from lightning_rnnattn.errors import UserError


class FiniteLoss(Callback):
    """Stop, or leave out the step, where the loss or a gradient is NaN or infinite, before any weight is changed by it.

    The message names the step, the batch, and the first module whose output (or parameter) is not finite, found by
    running the batch once more. The newest checkpoint is from before. Several processes decide together.

    It costs to read one number from the device in each step. Where fp16 gradients are scaled, overflow is what the
    scaler is for, and the loss alone is looked at.

    Protocol: ``module.step(batch, "train")`` or else ``training_step`` for a second look at the batch;
    ``module.forget()``, where the module carries state from batch to batch, which must not be gone on with.

    Args:
        skip: how many steps may be left out before the run stops; their number so far is logged as
            ``skipped_steps``.

    Raises:
        UserError: at the first such step after those that may be left out.
    """

    def __init__(self, skip: int = 0) -> None:
        if skip < 0:
            raise UserError(f"FiniteLoss: skip is {skip}: it must be 0 (stop at once) or more")
        self.skip = skip
        self._restart()

    def _restart(self) -> None:
        self.skipped = 0
        self._batch: tuple[Any, int] | None = None
        self._loss: Tensor | None = None
        self._bad: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin anew: each fit counts its own steps."""
        if stage == "fit":
            self._restart()

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batch for a second look."""
        self._batch = batch, batch_idx

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note whether the loss is finite; of batches whose gradients are accumulated, of any."""
        self._loss = loss.detach()
        bad = ~self._loss.isfinite()
        self._bad = bad if self._bad is None else self._bad | bad

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Decide, on all processes together, whether the step is made."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        bad = self._bad if self._bad is not None else torch.tensor(False, device=pl_module.device)
        self._bad = None
        if getattr(trainer.precision_plugin, "scaler", None) is None and gradients:
            norm = nn.utils.get_total_norm(gradients)
            norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of sharded gradients
            bad = bad | ~norm.isfinite()
        if not trainer.strategy.reduce(bad.float(), reduce_op="sum").item():
            return
        self.skipped += 1
        if self.skipped > self.skip:
            raise UserError(self._diagnosis(trainer, pl_module))
        rank_zero_warn(
            f"step {trainer.global_step + 1} is left out: its loss or gradient is not finite"
            f" ({self.skipped} of {self.skip} that may be)"
        )
        optimizer.zero_grad(set_to_none=True)  # nothing moves without a gradient
        forget = getattr(pl_module, "forget", None)
        if callable(forget):
            forget()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Log how many steps were left out, from the first one on."""
        self._batch = None
        if self.skipped:
            pl_module.log("skipped_steps", float(self.skipped), batch_size=1)

    def _diagnosis(self, trainer: Trainer, module: LightningModule) -> str:
        finite = self._loss is None or bool(self._loss.isfinite())
        what = "a gradient is not finite" if finite else f"the loss is {self._loss:g}"
        batch = "" if self._batch is None else f", batch {self._batch[1]}"
        paths = [c.last_model_path for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)]
        kept = f"the last good checkpoint is {paths[0]}" if paths and paths[0] else "no checkpoint was saved before"
        return (
            f"{what} at step {trainer.global_step + 1} (epoch {trainer.current_epoch}{batch}); first not finite:"
            f" {self._culprit(trainer, module)}; {kept}. Lower model.optimizer.lr, set trainer.gradient_clip_val, or"
            " leave such steps out: --trainer.callbacks+=FiniteLoss --trainer.callbacks.skip=10"
        )

    def _culprit(self, trainer: Trainer, module: LightningModule) -> str:
        for name, parameter in module.named_parameters():
            if not _is_finite(parameter.detach()):
                return f"the parameter {name}"
        if self._batch is not None and module.device_mesh is None:
            found: list[str] = []
            with _watched(module, found), observing(trainer, module):
                step = getattr(module, "step", None)
                step(self._batch[0], "train") if step else module.training_step(*self._batch)
            if found:
                return f"the output of {found[0]}"
        for name, parameter in module.named_parameters():
            if parameter.grad is not None and not _is_finite(parameter.grad):
                return f"the gradient of {name}"
        return "the loss itself"


@contextmanager
def _watched(module: nn.Module, found: list[str]) -> Iterator[None]:
    """Notes the names of modules as their outputs turn out not to be finite, inner ones first."""

    def look(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not all(_is_finite(tensor) for tensor in _tensors(output)):
            found.append(name)

    with ExitStack() as hooks:
        for name, child in module.named_modules():
            if name:
                hooks.callback(child.register_forward_hook(partial(look, name)).remove)
        yield


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _is_finite(tensor: Tensor) -> bool:
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return not local.is_floating_point() or bool(local.isfinite().all())
