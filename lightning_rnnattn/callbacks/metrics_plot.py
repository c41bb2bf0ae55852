"""The curves of a run as a picture."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from lightning_rnnattn.callbacks.curves_figure import curves_figure
from lightning_rnnattn.callbacks.figures import save_figure
from lightning_rnnattn.callbacks.run import RunCallback, logs_now, validates, writes

Points = list[tuple[int, float]]


class MetricsPlot(RunCallback):
    """Draw the run's curves into ``metrics.png`` of its folder, after every validation and at the end.

    It keeps a record of its own, whatever the logger. The record travels in the checkpoint, so that a resumed run draws
    the whole of it, from the state that it resumed from, in another folder too.

    Protocol: the module logs scalars under ``train_<quantity>`` and ``val_<quantity>``; any of them may be missing.

    Args:
        quantities: what is drawn, a panel for each: ``loss`` draws ``train_loss`` and ``val_loss``.
        max_points: a curve with more points than this is thinned to half, by the mean of neighbours.
        filename: the picture's name.
    """

    def __init__(
        self, quantities: Sequence[str] = ("loss", "perplexity"), max_points: int = 2000, filename: str = "metrics.png"
    ) -> None:
        self.quantities = tuple(quantities)
        self.max_points = max_points
        self.filename = filename
        self.reset()

    def reset(self) -> None:
        """Forgets another fit's curves."""
        super().reset()
        self._record: dict[str, Points] = {}

    @property
    def state_key(self) -> str:
        """By its file, so that one trainer may have several."""
        return self._generate_state_key(filename=self.filename)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Note the training metrics, as often as the loggers do."""
        if logs_now(trainer):  # reading a metric waits for the device: not at every step
            self._note(trainer, "train")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the validation metrics and draw."""
        if validates(trainer):
            self._note(trainer, "val")
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the training steps since the last validation too."""
        self._note(trainer, "train")
        self._draw(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The record of the run so far."""
        return {"record": {name: list(points) for name, points in self._record.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the record of the run that is resumed."""
        self._record = {name: list(points) for name, points in state_dict["record"].items()}

    def _note(self, trainer: Trainer, stage: str) -> None:
        metrics = trainer.callback_metrics
        for name in (f"{stage}_{quantity}" for quantity in self.quantities):
            points = self._record.setdefault(name, [])
            if name in metrics and (not points or points[-1][0] < trainer.global_step):
                points.append((trainer.global_step, float(metrics[name])))
            if len(points) > self.max_points:
                pairs = zip(points[::2], points[1::2], strict=False)
                self._record[name] = [(step, (before + value) / 2) for (_, before), (step, value) in pairs]

    def _draw(self, trainer: Trainer) -> None:
        if not writes(trainer):
            return
        curves = {
            quantity: {
                stage: points for stage in ("train", "val") if (points := self._record.get(f"{stage}_{quantity}"))
            }
            for quantity in self.quantities
        }
        curves = {quantity: lines for quantity, lines in curves.items() if lines}
        if curves:
            self.path = self.folder / self.filename
            save_figure(curves_figure(curves, title="Learning curves"), self.path)
