"""Lightning goes on from any checkpoint with the batches that the uninterrupted run would have seen."""

from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint

from lightning_rnnattn.data import ClassifiedDataModule, TextDataModule, TokenBatch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Recorder(L.LightningModule):
    """Notes every batch that it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        if isinstance(batch, TokenBatch):
            tokens, rest = batch.tokens, (batch.is_first, batch.mask.tolist())
        else:
            tokens, rest = batch.inputs.values, (batch.indices, batch.counts.tolist())
        self.seen.append((self.current_epoch, batch_idx, tokens.tolist(), *rest))
        return (self.weight - tokens.double().mean()) ** 2

    def validation_step(self, batch):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


class SaveAtEveryChance(Checkpoint):
    def __init__(self, folder):
        self.folder = folder

    def save(self, trainer, when):
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step:02d}-{when}.ckpt")

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.save(trainer, f"batch{batch_idx}")

    def on_train_epoch_end(self, trainer, module):
        self.save(trainer, "epoch-end")

    def on_validation_start(self, trainer, module):
        self.save(trainer, "validation-start")

    def on_validation_end(self, trainer, module):
        self.save(trainer, "validation-end")


def run(data, callbacks=(), ckpt_path=None, **arguments):
    model = Recorder()
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        callbacks=list(callbacks),
        **arguments,
    )
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return model


def test_trains_without_text_for_validation(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be\n" * 9)
    assert run(TextDataModule(str(tmp_path / "text.txt"), batch_size=2, seq_len=8), max_epochs=1).seen


ARGUMENTS = (
    {"max_epochs": 3},
    {"max_steps": 9},
    {"max_epochs": 3, "limit_train_batches": 2},
    {"max_epochs": 2, "limit_train_batches": 0.7},
    {"max_epochs": 2, "val_check_interval": 2},
    {"max_epochs": 2, "limit_val_batches": 0},
)


def assert_every_checkpoint_goes_on(data, folder, arguments):
    whole = run(data(), [SaveAtEveryChance(folder)], **arguments)
    checkpoints = sorted(folder.glob("*.ckpt"))
    assert len(checkpoints) > len(whole.seen)
    for path in checkpoints:
        step = int(path.name[:2])
        resumed = run(data(), ckpt_path=path, **arguments)
        assert resumed.seen == whole.seen[step:], path.name
        assert torch.equal(resumed.weight, whole.weight), path.name
    return whole.seen


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
@pytest.mark.parametrize(("size", "std"), [(27, 0.0), (60, 3.0)])
def test_a_stream(tmp_path: Path, arguments, size, std):
    text = tmp_path / "text.txt"
    # The smaller has 27 pairs in 2 rows: 4 batches, the last of them masked.
    text.write_text("".join(chr(0x100 + i) for i in range(size)))

    def data():
        return TextDataModule(str(text), str(text), batch_size=2, seq_len=4, seq_len_std=std)

    assert_every_checkpoint_goes_on(data, tmp_path, arguments)


def test_each_epoch_varies_the_lengths_in_its_own_way(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be\n" * 40)
    data = TextDataModule(str(tmp_path / "text.txt"), batch_size=2, seq_len=20, seq_len_std=3.0)
    seen = run(data, max_epochs=2).seen
    first, second = ([len(batch[2][0]) for batch in seen if batch[0] == epoch] for epoch in (0, 1))
    assert len(set(first)) > 3
    assert first != second


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_examples(tmp_path: Path, arguments):
    table = tmp_path / "labels.txt"
    table.write_text("".join(f"{i % 2} {chr(97 + i)} a\n" for i in range(11)))

    def data():
        return ClassifiedDataModule(str(table), str(table), batch_size=3)

    seen = assert_every_checkpoint_goes_on(data, tmp_path, arguments)
    orders = [[batch[2:] for batch in seen if batch[0] == epoch] for epoch in (0, 1)]
    assert orders[0] != orders[1], "an epoch has the order of the one before"
