"""Every shipped YAML file: it says what it is, and it runs through the real entry point."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.resources import shipped, summary

SHIPPED = dict(shipped())
TINY = [
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.strategy=auto",
    "--trainer.num_nodes=1",
    "--trainer.plugins=null",
    "--trainer.precision=32",
    "--trainer.max_steps=2",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_progress_bar=false",
    "--model.rnn.hidden_size=8",
    "--data.batch_size=2",
]
STREAM = ["--data.seq_len=8"]
TAGGED = [("It", "PRON"), ("is", "AUX"), ("a", "DET"), ("truth", "NOUN")]
FILES = ["--data.train_files=text.txt", "--data.val_files=text.txt"]
EXTRA = {
    "data/text.yaml": ["--data.train_files=text.txt", "--data.tokenizer.vocab_size=260"],
    "data/wikitext2.yaml": ["--data.dataset=null", *FILES],  # the hub may be out of reach
    "wikitext2/lm.yaml": ["--data.dataset=null", *FILES],
    "logger/wandb.yaml": ["--trainer.logger.offline=true"],
    "quickstart.yaml": ["--trainer.val_check_interval=2"],
    "tinyshakespeare/lm.yaml": ["--trainer.val_check_interval=2"],
    "ud_ewt/tagger.yaml": ["--data.train_files=tags.conllu", "--data.val_files=tags.conllu"],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where encoded text is kept, for all tests of this file."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workdir(tmp_path, cache, monkeypatch):
    """An empty working directory with a text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTNING_RNNATTN_CACHE", str(cache))
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    (tmp_path / "text.txt").write_text("It is a truth universally acknowledged\n" * 60)
    words = (f"{i}\t{word}\t_\t{label}" + 6 * "\t_" + "\n" for i, (word, label) in enumerate(TAGGED, start=1))
    (tmp_path / "tags.conllu").write_text(("".join(words) + "\n") * 5)
    return tmp_path


def command(path: Path) -> list[str]:
    """The launch command in a file's second line."""
    line = path.read_text(encoding="utf-8").splitlines()[1]
    assert line.startswith("# lightning_rnnattn "), path
    return shlex.split(line)[2:]


@pytest.mark.parametrize("name", SHIPPED)
def test_opens_with_what_it_is_and_how_to_run_it(name):
    assert re.fullmatch(r"[A-Z].{20,}\.|[A-Z].{20,}", summary(SHIPPED[name]))
    verb, *rest = command(SHIPPED[name])
    assert verb == "fit"
    configs = {value for flag, value in pairwise(rest) if flag == "--config"}
    assert name in {config.removeprefix("recipes/") for config in configs}


@pytest.mark.parametrize("name", SHIPPED)
def test_its_launch_command_runs(name, workdir):
    if name == "logger/tensorboard.yaml":
        pytest.importorskip("tensorboard")
    verb, *rest = command(SHIPPED[name])
    stream = [] if name == "ud_ewt/tagger.yaml" else STREAM
    main([verb, *rest, *TINY, *stream, *EXTRA.get(name, [])])
    assert list(workdir.glob("runs/**/config.yaml"))


def test_what_the_quickstart_prints_to_go_on_with_runs(workdir, capsys):
    tiny = [flag for flag in TINY if not flag.startswith("--trainer.max_")] + EXTRA["quickstart.yaml"] + STREAM
    main(["fit", "--config=quickstart.yaml", *tiny, "--trainer.max_steps=2"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "last.ckpt" in line and " fit " in line)
    main([*shlex.split(line)[1:], *tiny])
    last = torch.load("runs/quickstart/version_1/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert last["hyper_parameters"]["lr_scheduler"]["init_args"]["num_steps"] == 4  # else the rate would stay at zero


def test_every_yaml_file_of_the_checkout_is_shipped():
    checkout = Path(__file__).parents[1]
    assert set(SHIPPED.values()) == {
        path for kind in ("configs", "recipes") for path in (checkout / kind).rglob("*.yaml")
    }
