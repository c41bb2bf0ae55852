"""What the callbacks share that show what a model writes while it learns."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.observer import Observer
from lightning_rnnattn.callbacks.run import log_table, writes

_TABLE_ROWS = 1000  # the newest, so that neither checkpoints nor uploads grow for ever; the file keeps all

Row = Sequence[str]


class SampleTable(Observer):
    """A callback that appends what the model wrote after a validation to a file in the run's folder.

    W&B gets a table that grows (and, since its rows travel in the checkpoint, goes on when the run is resumed);
    TensorBoard, text. A subclass implements `write` and `markdown`.

    Args:
        every_n_validations: write after every so many validations.
        filename: the file's name.

    Attributes:
        key: what the table is called in loggers.
        columns: what its columns are called, behind the step.
    """

    key: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    def __init__(self, every_n_validations: int, filename: str) -> None:
        super().__init__(every_n_validations)
        self.filename = filename

    def reset(self) -> None:
        """Forgets another fit's table, too."""
        super().reset()
        self._rows: list[list[Any]] = []

    @abstractmethod
    def write(self, trainer: Trainer, module: LightningModule) -> Sequence[Row]:
        """Lets the model write: rows of the table, without the step."""

    @abstractmethod
    def markdown(self, rows: Sequence[Row]) -> str:
        """The rows as they stand in the file."""

    @property
    def state_key(self) -> str:
        """By its file, so that one trainer may have several."""
        return self._generate_state_key(filename=self.filename)

    def state_dict(self) -> dict[str, Any]:
        """Adds the table so far."""
        return {**super().state_dict(), "rows": [list(row) for row in self._rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the table."""
        super().load_state_dict(state_dict)
        self._rows = [list(row) for row in state_dict["rows"]]

    def observe(self, trainer: Trainer, module: LightningModule) -> None:
        """Write samples."""
        rows, step = self.write(trainer, module), trainer.global_step
        self._rows = [*self._rows, *([step, *row] for row in rows)][-_TABLE_ROWS:]
        if writes(trainer):
            markdown = self.markdown(rows)
            self.path = self.folder / self.filename
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"## Step {step}{_score(trainer)}\n\n{markdown}\n")
            log_table(trainer, self.key, ["step", *self.columns], self._rows, text=markdown)


def _score(trainer: Trainer) -> str:
    loss = trainer.callback_metrics.get("val_loss")
    return "" if loss is None else f" · val_loss {float(loss):.3f}"
