"""What a run shows of itself: on a terminal, in a file, and when it is to be quiet."""

import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_rnnattn.cli import main

from .conftest import DATA, MODEL

FIT = ["fit", *MODEL, *DATA, "--trainer.accelerator=cpu", "--trainer.limit_val_batches=2", "--trainer.max_steps=6"]
STEPS = ["--trainer.val_check_interval=3", "--trainer.log_every_n_steps=1"]


def on_a_terminal(*args: str) -> str:
    """What a real command writes to a terminal of 200 columns, without its control sequences."""
    reader, writer = pty.openpty()
    command = [Path(sys.executable).with_name("lightning_rnnattn"), *args]
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=writer, stderr=writer, env=environment)
    os.close(writer)
    written = b""
    while True:
        try:
            written += os.read(reader, 1 << 16)
        except OSError:  # the other end is closed
            break
    assert process.wait(timeout=60) == 0, written.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def test_a_bar_on_a_terminal_ends_where_the_training_does(workdir):
    text = on_a_terminal(*FIT, *STEPS)
    (last, *_) = [line for line in reversed(text.splitlines()) if "6/6" in line]
    assert re.search(r"Epoch 1 +━+ 6/6 \d+:\d\d:\d\d • \d+:\d\d:\d\d [\d.]+it/s", last)
    assert re.search(r"train_loss: \d\.\d+", last)
    assert re.search(r"val_perplexity: \d+", last)
    assert re.search(r"tokens/s: [\d,]+ left: 0:00:00", last)
    assert "v_num" not in text


def test_a_line_for_each_validation_elsewhere(workdir, capsys):
    main([*FIT, *STEPS])
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("step ")]
    number = r"[\d.,]+"
    pattern = rf"step {{}}/6 · .*val_loss {number} · .*train_loss {number} · tokens/s {number} · left 0:0\d:\d\d"
    assert len(lines) == 2
    for line, step in zip(lines, (3, 6), strict=True):
        assert re.fullmatch(pattern.format(step), line), line
    assert not re.search("[\x1b\r]", out)


def test_quiet(workdir, capfd, monkeypatch):
    for name in ("TTY_COMPATIBLE", "WANDB_SILENT"):
        monkeypatch.setenv(name, "")
    level = logging.getLogger("lightning.pytorch").level
    try:
        main([*FIT, *STEPS, "--quiet", "--trainer.callbacks+=NextSteps"])
        out, err = capfd.readouterr()
        assert out == ""
        assert [line for line in err.splitlines() if line and "Seed set to" not in line] == []
        assert Path("runs/version_0/checkpoints/last.ckpt").exists()
        main(["test", "--ckpt_path=runs/version_0/checkpoints/last.ckpt", "--quiet", "--trainer.limit_test_batches=1"])
        assert "test_loss" in capfd.readouterr().out  # a result is no noise
    finally:
        logging.getLogger("lightning.pytorch").setLevel(level)


@pytest.mark.parametrize("flag", ["--trainer.enable_progress_bar=false", "--trainer.callbacks+=TQDMProgressBar"])
def test_whoever_chooses_another_bar_has_it(workdir, capsys, flag):
    main([*FIT, *STEPS, flag])
    assert "step 3/6" not in capsys.readouterr().out
