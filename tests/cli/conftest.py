"""The command line in one process, in an empty working directory."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch  # noqa: F401  (its log handler keeps the stderr of now: not one that a test captures)
import pytest

from lightning_rnnattn.cli import main

TINY = [
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=2",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]
MODEL = ["--model=LanguageModel", "--model.input.embedding_size=4", "--model.rnn.hidden_size=8"]
DATA = ["--data=TinyShakespeare", "--data.batch_size=2", "--data.seq_len=8"]
ATTENTION = ["--model.attention=Attention", "--model.attention.window=4"]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Encoded text is kept for these tests only, and once for all of them."""
    os.environ["LIGHTNING_RNNATTN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["LIGHTNING_RNNATTN_CACHE"]


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch) -> Path:
    """An empty working directory; what a command changes in the process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    return tmp_path


@pytest.fixture
def fails(capsys) -> Callable[..., str]:
    """Runs a command that must fail as a user's mistake does, and gives its one line."""

    def run(*args: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(list(args))
        *_, line = capsys.readouterr().err.splitlines()
        assert stop.value.code == 2
        assert line.startswith("error: ")
        return line.removeprefix("error: ")

    return run


@pytest.fixture
def small() -> list[str]:
    """Flags for a small model on little data."""
    return [*MODEL, *DATA]


@pytest.fixture
def fit() -> Callable[..., None]:
    """Runs two steps of `fit` in the working directory; flags come after what configs say."""

    def run(*args: str) -> None:
        configs = [arg for arg in args if arg.startswith("--config=")]
        main(["fit", *configs, *TINY, *(arg for arg in args if arg not in configs)])

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The folder of a run of two steps of a small model with attention."""
    folder = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(folder)
    try:
        main(["fit", *TINY, *MODEL, *DATA, *ATTENTION, "--seed_everything=1", "--trainer.val_check_interval=2"])
    finally:
        os.chdir(before)
    return folder / "runs" / "version_0"


@pytest.fixture
def checkpoint(trained) -> str:
    """The checkpoint of that run."""
    return str(trained / "checkpoints" / "last.ckpt")


@pytest.fixture(scope="session")
def translator(tmp_path_factory) -> str:
    """The checkpoint of a model that was taught for a moment to write words backwards, in capitals."""
    folder = tmp_path_factory.mktemp("translator")
    before = Path.cwd()
    os.chdir(folder)
    try:
        words = ["ab", "cde", "f", "ghij", "abc", "jef"]
        lines = [f"{a} {b}" for a in words for b in words] + words
        Path("source.txt").write_text("".join(f"{line}\n" for line in lines))
        Path("target.txt").write_text("".join(f"{line[::-1].upper()}\n" for line in lines))
        main(
            [
                "fit",
                *TINY,
                "--trainer.max_steps=60",
                "--data=PairDataModule",
                "--data.train_source=source.txt",
                "--data.train_target=target.txt",
                "--data.val_fraction=0.1",
                "--data.source_tokenizer=CharTokenizer",
                "--data.lowercase=false",
                "--model=Seq2Seq",
                "--model.embedding_size=8",
                "--model.encoder=LSTM",
                "--model.encoder.hidden_size=16",
                "--model.encoder.bidirectional=true",
                "--model.decoder=BahdanauDecoder",
                "--model.decoder.rnn=GRU",
                "--model.decoder.rnn.hidden_size=16",
                "--model.decoder.attention=Attention",
                "--model.decoder.attention.score=AdditiveScore",
                "--model.optimizer=Adam",
                "--model.optimizer.lr=0.02",
                "--model.search=Greedy",
                "--model.search.max_length=20",
                "--model.text_metrics=[ChrF]",
                "--seed_everything=1",
            ]
        )
    finally:
        os.chdir(before)
    return str(folder / "runs" / "version_0" / "checkpoints" / "last.ckpt")
