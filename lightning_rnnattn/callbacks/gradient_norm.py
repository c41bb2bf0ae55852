"""The size of the gradient."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer


class GradientNorm(Callback):
    r"""Log ``grad_norm``, the 2-norm of the whole gradient before it is clipped, :math:`\sqrt{\sum_i g_i^2}`.

    Protocol: none. Under Lightning's ``FSDPStrategy`` each process holds a part of the gradient, and the number is that
    of rank zero's part.

    Args:
        every_n_steps: how often to log; None means the trainer's ``log_every_n_steps``.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        self.every_n_steps = every_n_steps

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log at the interval; the step that is about to be made counts."""
        every: int = self.every_n_steps or trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (trainer.global_step + 1) % every:
            return
        norm = torch.nn.utils.get_total_norm([p.grad for p in pl_module.parameters() if p.grad is not None])
        pl_module.log("grad_norm", norm.full_tensor() if isinstance(norm, DTensor) else norm, batch_size=1)
