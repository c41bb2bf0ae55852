"""What a run leaves in TensorBoard, and without any logger being named; for W&B see `test_wandb.py`."""

from pathlib import Path

import pytest

QUICK = ["--config=quickstart", "--model.rnn.hidden_size=8", "--data.seq_len=8", "--data.batch_size=2"]
STEPS = ["--trainer.log_every_n_steps=1", "--trainer.val_check_interval=2"]


def test_tensorboard_gets_the_same(fit, workdir):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(*QUICK, *STEPS, "--config=logger/tensorboard")
    (folder,) = {path.parent for path in workdir.glob("runs/**/events.out.*")}
    events = reading.EventAccumulator(str(folder)).Reload()
    for name in ("train_loss", "lr-AdamW", "grad_norm", "tokens_per_second", "data_wait"):
        assert [event.step for event in events.Scalars(name)] == [0, 1], name
    assert [event.step for event in events.Scalars("val_loss")] == [1]
    assert [image.step for image in events.Images("attention/example1")] == [1]
    (text,) = events.Tensors("samples/text_summary")
    assert "ROMEO:" in text.tensor_proto.string_val[0].decode()
    assert (folder / "metrics.png").exists()


def test_without_a_logger_being_named(fit, small):
    attention = ["--model.attention=Attention", "--model.attention.window=4"]
    fit(*small, *attention, *STEPS, "--trainer.callbacks+=AttentionMap")
    names = {path.relative_to("runs/version_0").as_posix() for path in Path("runs/version_0").rglob("*")}
    pictures = {"metrics.png", "attention/example1_step0000002.png", "attention/attention.html"}
    assert pictures | {"metrics.csv", "config.yaml"} <= names


def test_no_logger_at_all(fit, small, workdir):
    fit(*small, *STEPS, "--trainer.logger=false")
    assert Path("metrics.png").exists()
