"""A data module that remembers how it was made, in plain values."""

from typing import Any

import lightning.pytorch as L
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.recording import Recorded


class RecordedDataModule(Recorded, L.LightningDataModule):
    """A data module whose arguments are in every checkpoint as LightningCLI writes them, whoever makes it.

    Lightning's own ``save_hyperparameters()`` pickles objects such as a tokenizer specification when the module is made
    in Python, and such a checkpoint does not load with ``weights_only=True``. Here ``datamodule_hyper_parameters`` are
    plain data; see `Recorded`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters()

    def _set_hparams(self, hp: Any) -> None:
        # On the command line its arguments have been made by now: one way for both, by which classes have one name.
        super()._set_hparams({})

    def on_unrecordable(self, name: str, error: UserError) -> None:
        """Warns: a run can do without, if it is given its data again."""
        rank_zero_warn(f"the data module's argument {name!r} is not in the checkpoint: {error}")
