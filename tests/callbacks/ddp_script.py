"""Two processes fit and predict with every callback; `test_ddp.py` looks at what they leave."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))

import lightning.pytorch as L
from tiny import Batches, TinyModel

from lightning_rnnattn.callbacks import (
    AttentionMap,
    BestCheckpoint,
    LastCheckpoint,
    MetricsPlot,
    NextSteps,
    PredictionWriter,
    SampledText,
    Throughput,
)
from lightning_rnnattn.cli.processes import leave_process_group


class Dealt(Batches):
    """Each process takes every other batch."""

    def __iter__(self):
        yield from self.batches[int(os.environ.get("LOCAL_RANK", 0)) :: 2]

    def __len__(self):
        return len(self.batches) // 2


class Model(TinyModel):
    def predict_step(self, batch, batch_idx):
        rows = super().predict_step(batch, batch_idx)
        # Documents are dealt in turn: of the four of two batches, process r has r and r + 2.
        return [{**row, "document": str(2 * place + self.global_rank)} for place, row in enumerate(rows)]


if __name__ == "__main__":
    L.seed_everything(1)
    callbacks = [AttentionMap(), SampledText(["to"], 5), MetricsPlot(), Throughput()]
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        logger=L.loggers.CSVLogger(sys.argv[1], name="runs"),
        enable_progress_bar=False,
        log_every_n_steps=1,
        callbacks=[*callbacks, BestCheckpoint(), LastCheckpoint(every_n_train_steps=1), NextSteps()],
    )
    model = Model()
    trainer.fit(model, Dealt(), Dealt(2))
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_progress_bar=False,
        callbacks=[PredictionWriter(os.path.join(sys.argv[1], "predictions.jsonl"))],
    )
    trainer.predict(model, Dealt(2), return_predictions=False)
    del trainer, model
    leave_process_group()
