"""What the callbacks that look at the model after a validation share."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.delayed_averaging import averaged
from lightning_rnnattn.callbacks.run import RunCallback, observes, validates
from lightning_rnnattn.errors import UserError, require_positive


class Observer(RunCallback):
    """A callback that looks at the model after every so many validations of a fit, and at its end.

    Where weights are averaged, it has the mean that is validated. A subclass implements `observe`,
    and `take` if it needs a batch.

    Args:
        every_n_validations: look after every so many validations.

    Attributes:
        taken: what `take` kept of the fit's first validation batch; None before.

    Raises:
        UserError: if that is below 1.
    """

    def __init__(self, every_n_validations: int = 1) -> None:
        require_positive(self, every_n_validations=every_n_validations)
        self.every_n_validations = every_n_validations
        self.reset()

    def reset(self) -> None:
        """Forgets another fit's validations and batch."""
        super().reset()
        self._validations, self._last_step = 0, -1
        self.taken: Any = None

    def take(self, batch: Any) -> Any:
        """What is kept of a fit's first validation batch; None, as long as nothing is."""
        return None

    @abstractmethod
    def observe(self, trainer: Trainer, module: LightningModule) -> None:
        """Looks at the model; called on rank zero, and on every rank where the parameters are sharded."""

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take what is needed of the first batch."""
        if validates(trainer) and self.taken is None:
            self.taken = self.take(batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, if it is time to."""
        if not validates(trainer):
            return
        self._validations += 1
        if self._validations % self.every_n_validations == 0:
            self._look(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look, unless the last validation has done so at this very step."""
        if self._last_step < trainer.global_step:
            self._look(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """How many validations there were."""
        return {"validations": self._validations, "last_step": self._last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._validations, self._last_step = state_dict["validations"], state_dict["last_step"]

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        self._last_step = trainer.global_step
        if observes(trainer):
            with averaged(trainer, module):
                self.observe(trainer, module)


def no_examples(texts: Sequence[str] | None) -> UserError:
    """Says why there is nothing to look at, and the way out.

    Args:
        texts: those that were given; None where examples are taken from a validation.
    """
    why = "no validation came before the end" if texts is None else "there are no texts"
    return UserError(f"{why}: give it texts")
