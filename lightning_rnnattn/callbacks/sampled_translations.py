"""Translations that the model writes while it learns."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.run import observing, require
from lightning_rnnattn.callbacks.sample_table import Row, SampleTable
from lightning_rnnattn.data.base_pairs import BasePairDataModule
from lightning_rnnattn.errors import UserError, require_positive


class SampledTranslations(SampleTable):
    """Let the model translate some validation examples after every validation and at the end, into ``translations.md``.

    The examples stay the same over the run, short ones and long ones, as they are spread over the validation set.
    Loggers get a table, as `SampleTable` says.

    Protocol: the data module is one of pairs (`PairDataModule`); the module's ``predict_step`` gives a dict for each
    row with its ``text``, as `Seq2Seq` does.

    Args:
        num_examples: how many examples are translated.
        every_n_validations: translate after every so many validations.
        filename: the file's name.

    Raises:
        UserError: if a number is below 1; when the fit starts, if the module has no ``predict_step`` of its own, or
            there are no pairs to validate on.
    """

    key = "translations"
    columns = ("source", "reference", "hypothesis")

    def __init__(self, num_examples: int = 5, every_n_validations: int = 1, filename: str = "translations.md") -> None:
        super().__init__(every_n_validations, filename)
        require_positive(self, num_examples=num_examples)
        self.num_examples = num_examples

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make sure that there are examples, and what translates them, before training, not after it."""
        require(self, pl_module, "predict_step")
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, BasePairDataModule):
            raise UserError(
                f"SampledTranslations needs a data module of pairs (PairDataModule), not {type(data).__name__}"
            )
        data.require("val")

    def write(self, trainer: Trainer, module: LightningModule) -> Sequence[Row]:
        """See `SampleTable.write`."""
        examples = trainer.datamodule.examples("val")  # type: ignore[attr-defined]
        # In the middle of as many equal parts, so that one example is not the first of a file, which may be a heading.
        places = (np.arange(self.num_examples) + 0.5) * len(examples.lengths) / self.num_examples
        batch = examples.collate(sorted({int(place) for place in places}), True)
        with observing(trainer, module):
            found: Any = module.predict_step(trainer.strategy.batch_to_device(batch), 0)
        return [
            (pair.source, " / ".join(pair.references), written["text"])
            for pair, written in zip(batch.texts, found, strict=True)
        ]

    def markdown(self, rows: Sequence[Row]) -> str:
        """A table."""
        lines = [self.columns, ("---",) * len(self.columns), *([_escaped(text) for text in row] for row in rows)]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(text: str) -> str:
    """Text as Markdown shows it unchanged, in one line: ``<unk>`` would be a tag, and vanish; ``&quot;``, a quote."""
    return re.sub(r"([\\`*_<>|\[\]#~&])", r"\\\1", " ".join(text.split()))
