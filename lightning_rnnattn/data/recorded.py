"""A data module that remembers how it was made, in plain values."""

from typing import Any

import lightning.pytorch as L
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.recording import Recorded
from lightning_rnnattn.spec import record, spec


class RecordedDataModule(Recorded, L.LightningDataModule):
    """A data module whose arguments are in every checkpoint as LightningCLI writes them, whoever makes it.

    Lightning's own ``save_hyperparameters()`` pickles objects such as a tokenizer specification when the module is made
    in Python, and such a checkpoint does not load with ``weights_only=True``. Here ``datamodule_hyper_parameters`` is
    always ``{"_class_path", "_instantiator", **arguments}`` of primitives; see `Recorded`.
    """

    def __init__(self) -> None:
        super().__init__()
        plain: dict[str, Any] = {}
        for name, value in (self.take_arguments() or {}).items():
            try:
                plain[name] = spec(value, name)
            except UserError as error:
                rank_zero_warn(f"the data module's argument {name!r} is not in the checkpoint: {error}")
        self.save_hyperparameters(record(type(self), plain))
