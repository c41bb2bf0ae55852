"""Averaged weights from the moment at which plain SGD gets no further."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_rnnattn.callbacks.delayed_averaging import DelayedAveraging
from lightning_rnnattn.callbacks.run import validates
from lightning_rnnattn.errors import UserError


class NTASGD(DelayedAveraging):
    r"""Non-monotonically triggered averaged SGD (Merity et al. 2018, section 3), as the authors' code has it.

    Training goes on as it is; from the trigger on, the mean of the weights after all steps since then is what is
    validated and what checkpoints hold as the model. Averaging begins after the first validation whose loss is above
    the lowest one of those that lie more than ``nonmono`` validations back:

    .. math:: v_t > \min_{l < t - n} v_l

    (The paper's algorithm 1 looks at the last n instead.) With ``SGD`` as the optimizer this is torch's ``ASGD`` of
    ``lambd=0, t0=0``, except that torch leaves the first step out of the mean. Weights that training goes on from are
    in the checkpoint beside the averaged ones, so that a run resumes exactly.

    Args:
        monitor: the validation loss that triggers.
        nonmono: n.
    """

    def __init__(self, monitor: str = "val_loss", nonmono: int = 5) -> None:
        super().__init__()
        self.monitor = monitor
        self.nonmono = nonmono
        self.averages = False
        self._losses: list[float] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget another fit's losses."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self.averages, self._losses = False, []

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After each step since the trigger."""
        return self.averages and step_idx is not None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to average where the loss calls for it.

        Raises:
            UserError: if nothing is logged as ``monitor``.
        """
        if not validates(trainer) or self.averages:
            return
        if self.monitor not in trainer.callback_metrics:
            logged = ", ".join(sorted(trainer.callback_metrics))
            raise UserError(f"NTASGD: nothing logs monitor={self.monitor!r}, only {logged or 'nothing at all'}")
        loss = float(trainer.callback_metrics[self.monitor])
        long_ago = self._losses[: -self.nonmono] if self.nonmono else self._losses
        self._losses.append(loss)
        if long_ago and loss > min(long_ago):
            self.averages = True
            rank_zero_info(f"NTASGD: averaging weights from step {trainer.global_step} on")

    def state_dict(self) -> dict[str, Any]:
        """The losses so far, and whether they have triggered."""
        return {**super().state_dict(), "averages": self.averages, "losses": list(self._losses)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        super().load_state_dict(state_dict)
        self.averages, self._losses = state_dict["averages"], list(state_dict["losses"])
