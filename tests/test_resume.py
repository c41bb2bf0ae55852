"""A run that is killed and started again ends as if nothing had happened: weights, optimizer, and logged metrics."""

import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.processes import AGAIN

STEPS = 36
COMMON = [
    f"--trainer.max_steps={STEPS}",
    "--trainer.val_check_interval=7",
    "--trainer.accelerator=cpu",
    "--trainer.enable_model_summary=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.callbacks+=LastCheckpoint",
    "--trainer.callbacks.every_n_train_steps=1",
    "--trainer.log_every_n_steps=1",
    "--import=interrupt",
]
LANGUAGE_MODEL = [
    "--model=LanguageModel",
    "--model.input.embedding_size=8",
    "--model.input.dropout=0.2",
    "--model.rnn.hidden_size=16",
    "--model.rnn.num_layers=2",
    "--model.rnn.dropout=0.2",
    "--model.rnn.locked_dropout=0.2",
    "--model.rnn.weight_dropout=0.2",
    "--model.attention=Attention",
    "--model.attention.score=AdditiveScore",
    "--model.attention.window=12",
    "--model.attention.dropout=0.2",
    "--model.locked_dropout=0.2",
    "--data=TextDataModule",
    "--data.train_files=text.txt",
    "--data.val_fraction=0.2",
    "--data.batch_size=2",
    "--data.seq_len=8",
    "--data.seq_len_std=2.0",
    *COMMON,
    "--trainer.callbacks+=LengthScaledLR",
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
SEQ2SEQ = [
    "--model=Seq2Seq",
    "--model.embedding_size=8",
    "--model.encoder=LSTM",
    "--model.encoder.hidden_size=8",
    "--model.encoder.bidirectional=true",
    "--model.decoder=InputFeedingDecoder",
    "--model.decoder.rnn=LSTM",
    "--model.decoder.rnn.hidden_size=16",
    "--model.dropout=0.2",
    "--model.text_metrics=[ChrF]",
    "--model.search=Greedy",
    "--model.search.max_length=5",
    "--data=PairDataModule",
    "--data.train_source=source.txt",
    "--data.train_target=target.txt",
    "--data.val_fraction=0.2",
    "--data.source_tokenizer=WordTokenizer",
    "--data.batch_size=3",
    *COMMON,
    "--trainer.callbacks+=BestCheckpoint",
    "--trainer.callbacks.monitor=val_chrf",
    "--trainer.callbacks.mode=max",
    "--trainer.callbacks+=SampledTranslations",
    "--trainer.callbacks.num_examples=2",
]


TASKS = {"language model": LANGUAGE_MODEL, "tagger": TAGGER, "classifier": CLASSIFIER, "seq2seq": SEQ2SEQ}
DDP = ["--trainer.strategy=ddp", "--trainer.devices=2"]

INTERRUPT = """\
import os, threading
from lightning.pytorch import Callback


class Interrupt(Callback):
    # Sends its own process a signal at a moment of a run that was not interrupted before.

    def __init__(self, moment: str, how: int = 9, step: int = 17, seconds: float = 0, rank: int = 0):
        self.moment, self.how, self.step, self.seconds, self.rank = moment, how, step, seconds, rank

    def strike(self, trainer, moment):
        if moment == self.moment and trainer.ckpt_path is None and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.how)

    def on_train_start(self, trainer, pl_module):
        if self.moment == "any":
            threading.Timer(self.seconds, self.strike, (trainer, "any")).start()
        save = trainer.save_checkpoint

        def cut(path, *args, **kwargs):
            save(path, *args, **kwargs)
            if self.moment == "saving" and trainer.global_step >= self.step and os.path.exists(path):
                os.truncate(path, os.path.getsize(path) // 2)
                self.strike(trainer, "saving")

        trainer.save_checkpoint = cut

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            self.strike(trainer, "training")

    def on_validation_start(self, trainer, pl_module):
        if trainer.global_step > self.step:
            self.strike(trainer, "before validation")

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if trainer.global_step > self.step and batch_idx == 1:
            self.strike(trainer, "validation")
"""


def prepare(folder: Path) -> Path:
    folder.mkdir()
    # Some 22 batches to an epoch: the run passes several, and a validation every 7 steps.
    (folder / "text.txt").write_text("to be or not to be, that is the question\n" * 11)
    sentences = ("".join(f"w{(7 * i + t) % 5} {'AB'[(i + t) % 2]}\n" for t in range(1 + i % 6)) for i in range(80))
    (folder / "tags.txt").write_text("\n".join(sentences))
    (folder / "labels.txt").write_text("".join(f"{i % 2} {' '.join('abc'[: 1 + i % 3])}\n" for i in range(80)))
    pairs = [["abc"[(i + t) % 3] for t in range(1 + i % 4)] for i in range(80)]
    (folder / "source.txt").write_text("".join(f"{' '.join(words)}\n" for words in pairs))
    (folder / "target.txt").write_text("".join(f"{' '.join(reversed(words)).upper()}\n" for words in pairs))
    (folder / "interrupt.py").write_text(INTERRUPT)
    return folder


def command(folder: Path, *args: str) -> int:
    """The exit code of the real command."""
    line = [sys.executable, "-m", "lightning_rnnattn", "fit", *args]
    started = time.monotonic()
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert "terminate called" not in done.stderr
    if done.returncode:
        print(f"{done.returncode} after {time.monotonic() - started:.0f} s\n{done.stderr[-2000:]}")
    return done.returncode


def newest(folder: Path, name: str) -> Path:
    return max(folder.glob(f"runs/*/**/{name}"), key=lambda path: path.stat().st_mtime)


def metrics(folder: Path) -> list[dict[str, str]]:
    with newest(folder, "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = [{k: v for k, v in row.items() if v and k.startswith(("step", "epoch", "train", "val"))} for row in rows]
    return [row for row in kept if row.keys() - {"step", "epoch"}]  # without those of speed


def assert_same_end(folder: Path, whole: Path) -> None:
    """Two runs ended in the same state, and have logged the same."""
    resumed, expected = (torch.load(newest(run, "last.ckpt"), weights_only=True) for run in (folder, whole))
    assert expected["global_step"] == resumed["global_step"]
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][name]), name
    for key, state in expected["optimizer_states"][0]["state"].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, resumed["optimizer_states"][0]["state"][key][name]), (key, name)
    assert metrics(folder) == metrics(whole)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Gives the folder of an uninterrupted run of some flags, made once."""
    made: dict[tuple[str, ...], Path] = {}
    root = tmp_path_factory.mktemp("wholes")

    def whole(*args: str) -> Path:
        if args not in made:
            folder = prepare(root / str(len(made)))
            assert command(folder, *args) == 0
            made[args] = folder
        return made[args]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_RNNATTN_CACHE", str(root / "cache"))
        yield whole


def interrupted(moment: str, **options: object) -> list[str]:
    more = [f"--trainer.callbacks.{name}={value}" for name, value in options.items()]
    return ["--trainer.callbacks+=interrupt.Interrupt", f"--trainer.callbacks.moment={moment}", *more]


@pytest.mark.parametrize("task", TASKS)
def test_a_killed_run_resumes_bit_for_bit(task, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_RNNATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    whole, killed = prepare(tmp_path / "whole"), prepare(tmp_path / "killed")
    monkeypatch.chdir(whole)
    main(["fit", *TASKS[task]])
    assert command(killed, *TASKS[task], *interrupted("training")) == -signal.SIGKILL
    assert torch.load(newest(killed, "last.ckpt"), weights_only=True)["global_step"] == 17
    monkeypatch.chdir(killed)
    main(["fit", *TASKS[task], "--ckpt_path=last"])
    assert_same_end(killed, whole)


@pytest.mark.parametrize("where", ["at its end", pytest.param("in its validation", marks=pytest.mark.slow)])
def test_a_run_stopped_after_an_epoch_goes_on_with_the_next(where, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_RNNATTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    whole, stopped = prepare(tmp_path / "whole"), prepare(tmp_path / "stopped")
    args = [*CLASSIFIER, "--trainer.max_steps=-1", "--trainer.val_check_interval=1.0"]
    monkeypatch.chdir(whole)
    main(["fit", *args, "--trainer.max_epochs=2"])
    monkeypatch.chdir(stopped)
    if where == "at its end":
        main(["fit", *args, "--trainer.max_epochs=1"])
    else:
        assert command(stopped, *args, "--trainer.max_epochs=2", *interrupted("validation")) == -signal.SIGKILL
    main(["fit", *args, "--trainer.max_epochs=2", "--ckpt_path=last"])
    assert_same_end(stopped, whole)


MOMENTS = ("training", "before validation", "validation", "saving")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("processes", [1, 2])
def test_every_moment(task, moment, how, processes, wholes, tmp_path):
    if moment == "saving" and how == signal.SIGTERM:
        pytest.skip("the file that is cut short there is made whole by SIGTERM")
    args = [*TASKS[task], *(DDP if processes == 2 else [])]
    whole, folder = wholes(*args), prepare(tmp_path / "stopped")
    rank = 1 if processes == 2 and how == signal.SIGKILL and moment != "saving" else 0
    started = time.monotonic()
    code = command(folder, *args, *interrupted(moment, how=int(how), rank=rank))
    assert time.monotonic() - started < 90, "a run that lost a process did not end"
    assert code in ((AGAIN,) if how == signal.SIGTERM else (AGAIN,) if rank else (-signal.SIGKILL,))
    assert command(folder, *args, "--ckpt_path=last") == 0
    assert_same_end(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before validation", "validation"])
def test_the_last_validation(moment, wholes, tmp_path):
    args = TASKS["seq2seq"]
    whole, folder = wholes(*args), prepare(tmp_path / "stopped")
    assert command(folder, *args, *interrupted(moment, step=STEPS - 1)) == -signal.SIGKILL
    assert command(folder, *args, "--ckpt_path=last") == 0
    assert_same_end(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_any_moment(seed, wholes, tmp_path):
    rng = random.Random(seed)
    args = TASKS[rng.choice(sorted(TASKS))]
    whole, folder = wholes(*args), prepare(tmp_path / "stopped")
    how = rng.choice([signal.SIGKILL, signal.SIGTERM])
    code = command(folder, *args, *interrupted("any", how=int(how), seconds=rng.uniform(0, 4)))
    assert code in (0, AGAIN, -how)
    assert command(folder, *args, "--ckpt_path=last") == 0
    assert_same_end(folder, whole)
