"""What training can do beside, each by one option of the command line, on any run."""

import csv
from pathlib import Path

import pytest
import torch

from lightning_rnnattn.cli.resources import find_config, read_yaml

SGD = ["--model.optimizer=SGD", "--model.optimizer.lr=1.0", "--trainer.log_every_n_steps=1"]
EPOCHS = ["--trainer.max_steps=-1", "--trainer.limit_train_batches=2"]


def last(version=0):
    return torch.load(f"runs/version_{version}/checkpoints/last.ckpt", weights_only=True)


def rows(version=0):
    lines = Path(f"runs/version_{version}/metrics.csv").read_text().splitlines()
    kept = ("step", "train_loss", "val_")
    return [{name: row[name] for name in row if name.startswith(kept)} for row in csv.DictReader(lines)]


def weights(version=0):
    return torch.cat([tensor.flatten() for tensor in last(version)["state_dict"].values()])


def test_gradients_of_two_batches_make_one_step(fit, small, workdir):
    (workdir / "text.txt").write_text("to be or not to be, that is the question\n" * 8)
    text = [*small, "--data=TextDataModule", "--data.train_files=text.txt", *SGD, "--model.attention=null"]
    fit(*text, "--data.batch_size=1", "--trainer.accumulate_grad_batches=2", "--trainer.max_steps=1")
    assert last()["global_step"] == 1
    assert last()["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] == 2


def test_gradients_are_clipped(fit, small):
    fit(*small, *SGD, "--trainer.max_steps=1", "--trainer.gradient_clip_val=0.0001")
    fit(*small, *SGD, "--trainer.max_steps=1", "--model.optimizer.lr=1.0e-30")
    assert float((weights(0) - weights(1)).norm()) == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        (["WarmupCosine", "num_steps=2"], 0.0),
        (["WarmupInverseSquareRoot", "warmup_steps=4"], 3 / 4),
        (["lightning.pytorch.cli.ReduceLROnPlateau", "monitor=train_loss"], 1.0),
        (["torch.optim.lr_scheduler.ExponentialLR", "gamma=0.5"], 1.0),  # which counts epochs
    ],
    ids=str,
)
def test_schedules(fit, small, schedule, factor):
    name, option = schedule
    fit(*small, *SGD, f"--model.lr_scheduler={name}", f"--model.lr_scheduler.{option}")
    assert last()["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(factor)


def test_early_stopping(fit, small):
    stop = ["--config=trainer/early_stopping.yaml", *small, "--model.optimizer=SGD", "--model.optimizer.lr=0"]
    fit(*stop, *EPOCHS, "--trainer.max_epochs=20")
    assert last()["epoch"] == 3  # the first validation, and three that are no better


@pytest.mark.parametrize(
    "average", [["EMAWeightAveraging", "decay=0.5"], ["EpochAverage", "start=0"]], ids=["moving", "epochs"]
)
def test_averages(fit, small, average):
    name, option = average
    fit(
        *small, *SGD, *EPOCHS, "--trainer.max_epochs=2", f"--trainer.callbacks+={name}", f"--trainer.callbacks.{option}"
    )
    checkpoint = last()
    assert "current_model_state" in checkpoint
    own, mean = (checkpoint[key]["output.weight"] for key in ("current_model_state", "state_dict"))
    assert not torch.equal(own, mean)


@pytest.mark.parametrize("precision", ["64", "bf16-true"])
def test_padded_batches_of_other_precisions(fit, workdir, precision):
    (workdir / "lines.txt").write_text("a b\nb a b\n" * 4)
    pairs = ["--data=PairDataModule", "--data.train_source=lines.txt", "--data.train_target=lines.txt"]
    model = ["--model=Seq2Seq", "--model.embedding_size=4", "--model.encoder=GRU", "--model.encoder.hidden_size=4"]
    fit(*model, *pairs, "--data.source_tokenizer=CharTokenizer", *SGD, f"--trainer.precision={precision}")
    assert torch.isfinite(weights()).all()


def test_averages_need_whole_weights(fails, small):
    options = ["--config=trainer/fsdp.yaml", "--trainer.accelerator=cpu", "--trainer.devices=1"]
    line = fails("fit", *options, *small, "--trainer.callbacks+=EMAWeightAveraging")
    assert line == "trainer.callbacks: averages of weights need whole weights: use the strategy ddp with them"
    torch.distributed.destroy_process_group()


def test_every_run_has_the_guard_and_the_history_of_its_metrics(fit, fails, small, capsys):
    line = fails("fit", *small, *SGD, "--trainer.accelerator=cpu", "--trainer.max_steps=9",
                 "--trainer.limit_val_batches=0", "--model.optimizer.lr=1.0e38",
                 "--trainer.callbacks=null")  # fmt: skip
    assert line.startswith(("the loss is ", "a gradient is not finite at step "))
    assert "no checkpoint was saved before. Lower model.optimizer.lr" in line
    fit(*small, *SGD, "--trainer.callbacks+=FiniteLoss", "--trainer.callbacks.skip=3")  # instead, not as well
    callbacks = last(1)["callbacks"]
    assert callbacks["FiniteLoss"] == {"skipped": 0}


def test_metrics_of_a_resumed_run_are_those_of_one_that_went_through(fit, small):
    every = [*small, *SGD, "--trainer.val_check_interval=2", "--trainer.limit_val_batches=1"]
    fit(*every, "--trainer.max_steps=6")
    fit(*every, "--trainer.max_steps=5")
    fit(*every, "--trainer.max_steps=6", "--ckpt_path=runs/version_1/checkpoints/last-previous.ckpt")
    assert rows(0) == rows(2)
    assert len(rows(0)) == 6 + 3


def test_parts_are_stackable():
    """A trainer part changes the trainer only, and lists no callbacks that would replace those of the run."""
    for name in ("cpu", "gpu", "ddp", "fsdp", "multinode", "slurm", "early_stopping"):
        settings = read_yaml(find_config(f"trainer/{name}.yaml"))
        assert settings.keys() == {"trainer"}
        assert "callbacks" not in settings["trainer"]
