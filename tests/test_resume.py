"""A run that is killed and started again ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lightning_rnnattn.cli import main

STEPS = 60
COMMON = [
    f"--trainer.max_steps={STEPS}",
    "--trainer.val_check_interval=7",
    "--trainer.accelerator=cpu",
    "--trainer.enable_model_summary=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.callbacks+=LastCheckpoint",
    "--trainer.callbacks.every_n_train_steps=1",
]
LANGUAGE_MODEL = [
    "--model=LanguageModel",
    "--model.embedding_size=8",
    "--model.rnn.hidden_size=16",
    "--model.rnn.num_layers=2",
    "--model.rnn.dropout=0.2",
    "--model.attention=Attention",
    "--model.attention.score=AdditiveScore",
    "--model.attention.window=12",
    "--model.attention.dropout=0.2",
    "--model.dropout=0.2",
    "--data=TextDataModule",
    "--data.train_files=text.txt",
    "--data.val_fraction=0.2",
    "--data.batch_size=2",
    "--data.seq_len=8",
    *COMMON,
    "--trainer.callbacks+=SampledText",
    "--trainer.callbacks.prompts=[to]",
    "--trainer.callbacks.max_new_tokens=5",
]
TAGGER = [
    "--model=SequenceTagger",
    "--model.input.embedding_size=8",
    "--model.input.token_dropout=0.2",
    "--model.characters=CharacterEncoder",
    "--model.output=CRFOutput",
    "--model.dropout=0.2",
    "--data=TaggedDataModule",
    "--data.train_files=tags.txt",
    "--data.val_fraction=0.2",
    "--data.format=Columns",
    "--data.batch_size=3",
    *COMMON,
]
CLASSIFIER = [
    "--model=SequenceClassifier",
    "--model.input.embedding_size=8",
    "--model.input.token_dropout=0.2",
    "--model.pooling.num_queries=2",
    "--model.penalty=0.1",
    "--model.dropout=0.2",
    "--data=ClassifiedDataModule",
    "--data.train_files=labels.txt",
    "--data.val_fraction=0.2",
    "--data.batch_size=3",
    *COMMON,
    "--trainer.callbacks+=ConfusionMatrix",
]


def last_checkpoint(folder: Path) -> dict:
    newest = max(folder.glob("**/last.ckpt"), key=lambda path: path.stat().st_mtime)
    return torch.load(newest, weights_only=True)


def prepare(folder: Path) -> Path:
    folder.mkdir()
    # Some 22 batches to an epoch: the run passes several, and a validation every 7 steps.
    (folder / "text.txt").write_text("to be or not to be, that is the question\n" * 11)
    sentences = ("".join(f"w{(7 * i + t) % 5} {'AB'[(i + t) % 2]}\n" for t in range(1 + i % 6)) for i in range(80))
    (folder / "tags.txt").write_text("\n".join(sentences))
    (folder / "labels.txt").write_text("".join(f"{i % 2} {' '.join('abc'[: 1 + i % 3])}\n" for i in range(80)))
    return folder


@pytest.mark.parametrize("task", [LANGUAGE_MODEL, TAGGER, CLASSIFIER], ids=["language model", "tagger", "classifier"])
def test_a_killed_run_resumes_bit_for_bit(task, tmp_path, monkeypatch):
    args = ["fit", *task]
    monkeypatch.setenv("LIGHTNING_RNNATTN_CACHE", str(tmp_path / "cache"))
    whole, killed = prepare(tmp_path / "whole"), prepare(tmp_path / "killed")
    monkeypatch.chdir(whole)
    main(args)

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "lightning_rnnattn", *args], cwd=killed, env=environment)
    written = killed / "runs" / "version_0" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if written.exists() and torch.load(written, weights_only=True)["global_step"] >= 5:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    stopped = torch.load(written, weights_only=True)
    assert 5 <= stopped["global_step"] < STEPS

    monkeypatch.chdir(killed)
    main([*args, "--ckpt_path=last"])
    expected, resumed = last_checkpoint(whole), last_checkpoint(killed)
    assert expected["global_step"] == resumed["global_step"] == STEPS
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    for key, state in expected["optimizer_states"][0]["state"].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, resumed["optimizer_states"][0]["state"][key][name]), (key, name)
