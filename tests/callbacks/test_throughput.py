import csv

import pytest
from lightning.pytorch.loggers import CSVLogger

from lightning_rnnattn.callbacks import LastCheckpoint, Throughput

from .tiny import Batches, TinyModel


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where a test says so, in seconds."""

    class Clock:
        now = 0.0

    monkeypatch.setattr("lightning_rnnattn.callbacks.throughput.time.perf_counter", lambda: Clock.now)
    return Clock


@pytest.fixture
def slow(clock):
    """A model and batches: a step takes 3 s, to get a batch 1 s, a validation 100 s, a checkpoint 1000 s."""

    class SlowModel(TinyModel):
        def training_step(self, batch, batch_idx):
            clock.now += 3
            return super().training_step(batch, batch_idx)

        def on_validation_start(self):
            clock.now += 100

        def on_save_checkpoint(self, checkpoint):
            clock.now += 1000

    class SlowBatches(Batches):
        def __iter__(self):
            for batch in super().__iter__():
                clock.now += 1
                yield batch

    return SlowModel, SlowBatches()


def rows(path):
    with (path / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["tokens_per_second"]]


def test_tokens_per_second_and_waiting(fit, tmp_path, slow):
    kind, train = slow
    logger = CSVLogger(tmp_path, name="", version="")
    trainer, _ = fit(Throughput(), LastCheckpoint(), kind=kind, train=train, logger=logger, val_check_interval=4)
    # Two batches of 22 tokens in 2 * 3 s of work, and the waiting for those of them that came right after a step.
    assert [(float(row["tokens_per_second"]), float(row["data_wait"])) for row in rows(tmp_path)] == [
        (pytest.approx(44 / (6 + wait)), pytest.approx(wait / (6 + wait))) for wait in [1, 2, 1, 2, 1, 2, 1, 2]
    ]
    ratios = [float(row["tokens_per_second"]) / float(row["samples_per_second"]) for row in rows(tmp_path)]
    assert ratios == pytest.approx([44 / 4] * 8)  # two rows a batch
    assert [int(row["step"]) for row in rows(tmp_path)] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert "tokens_per_second" in trainer.progress_bar_metrics
    assert "data_wait" not in trainer.progress_bar_metrics


def test_the_module_counts_its_tokens(fit, tmp_path, slow):
    class Counts(slow[0]):
        def num_tokens(self, batch):
            return 10**6

    fit(Throughput(every_n_steps=8), kind=Counts, logger=CSVLogger(tmp_path, name="", version=""), max_epochs=1)
    (row,) = rows(tmp_path)
    assert float(row["tokens_per_second"]) == pytest.approx(10**6 * 8 / 24)


def test_a_model_that_does_not_count_tokens_trains_all_the_same(fit):
    class Unmasked(Batches):
        def __iter__(self):
            for batch in super().__iter__():
                yield [batch]

    class Uncounted(TinyModel):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch[0], batch_idx)

    trainer, _ = fit(Throughput(every_n_steps=1), kind=Uncounted, train=Unmasked())
    assert "data_wait" in trainer.callback_metrics
    assert "tokens_per_second" not in trainer.callback_metrics
