"""Every shipped YAML file: it says what it is, and it runs through the real entry point."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning.pytorch.cli import instantiate_module

from lightning_rnnattn import LanguageModel
from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.resources import read_yaml, shipped, summary

# What `--config` takes; sweeps are W&B's: see tests/cli/test_wandb.py.
SHIPPED = {name: path for name, path in shipped() if not name.startswith("sweeps/")}
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
    "--data.batch_size=2",
]
RNN = ["--model.rnn.hidden_size=8"]
PAIRS = [
    *("quickstart_g2p.yaml", "model/seq2seq_bahdanau.yaml", "model/seq2seq_luong.yaml", "data/cmudict.yaml"),
    *("cmudict/g2p.yaml", "multi30k/bahdanau.yaml", "multi30k/luong.yaml"),
]
PAIRED = ["--model.encoder.hidden_size=8", "--model.decoder.rnn.hidden_size=16", "--trainer.val_check_interval=2"]
NO_STREAM = [
    *PAIRS,
    "mnist/pixels.yaml",
    "mnist/rows.yaml",
    "quickstart_classify.yaml",
    "sst2/self_attentive.yaml",
    "ud_ewt/tagger.yaml",
]
STREAM = ["--data.seq_len=8"]
SIDES = ("train_source", "train_target", "val_source", "val_target")
FILES = ["--data.train_files=text.txt", "--data.val_files=text.txt"]
WIKITEXT = ("awd_lstm", "awd_lstm_attention", "plain_small", "plain_medium", "plain_large", "small_attention")
EXTRA = {
    "data/text.yaml": ["--data.train_files=text.txt", "--data.tokenizer.vocab_size=260"],
    "data/wikitext2.yaml": FILES,  # the hub may be out of reach
    **{f"wikitext2/{name}.yaml": FILES for name in WIKITEXT},
    "enwik8/sha_rnn.yaml": ["--data.train_files=text.txt", "--data.val_fraction=0.2", "--trainer.val_check_interval=2"],
    "logger/wandb.yaml": ["--trainer.logger.offline=true"],
    "sst2/self_attentive.yaml": ["--data.train_files=labels.txt", "--data.val_files=labels.txt"],
    "multi30k/bahdanau.yaml": [f"--data.{side}=text.txt" for side in SIDES],
    "multi30k/luong.yaml": [f"--data.{side}=text.txt" for side in SIDES],
    "mnist/pixels.yaml": ["--data.folder=mnist", "--data.val_fraction=0.5"],
    "mnist/rows.yaml": ["--data.folder=mnist", "--data.val_fraction=0.5"],
    "quickstart.yaml": ["--trainer.val_check_interval=2"],
    "quickstart_classify.yaml": ["--trainer.val_check_interval=2"],
    "tinyshakespeare/lm.yaml": ["--trainer.val_check_interval=2"],
    "ud_ewt/tagger.yaml": ["--data.train_files=tags.conllu", "--data.val_files=tags.conllu"],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where encoded text is kept, for all tests of this file."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workdir(tmp_path, samples, cache, monkeypatch):
    """A working directory with a file or two of each kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTNING_RNNATTN_CACHE", str(cache))
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
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
    stream = [] if name in NO_STREAM else STREAM
    sizes = PAIRED if name in PAIRS else RNN
    main([verb, *rest, *TINY, *sizes, *stream, *EXTRA.get(name, [])])
    assert list(workdir.glob("runs/**/config.yaml"))


def test_what_the_quickstart_prints_to_go_on_with_runs(workdir, capsys):
    tiny = [flag for flag in TINY if not flag.startswith("--trainer.max_")] + EXTRA["quickstart.yaml"] + RNN + STREAM
    main(["fit", "--config=quickstart.yaml", *tiny, "--trainer.max_steps=2"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "last.ckpt" in line and " fit " in line)
    main([*shlex.split(line)[1:], *tiny])
    last = torch.load("runs/quickstart/version_1/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert last["hyper_parameters"]["lr_scheduler"]["init_args"]["num_steps"] == 4  # else the rate would stay at zero


def test_wikitext_models_have_the_parameters_of_the_published_ones():
    """33,556,078 is what the released AWD-LSTM counts; beside an attention stands a control as large."""
    counts = {}
    for name in WIKITEXT:
        settings = read_yaml(SHIPPED[f"wikitext2/{name}.yaml"])["model"]["init_args"]
        with torch.device("meta"):
            model = instantiate_module(
                LanguageModel, {**settings, "vocab_size": 33_278, "_class_path": "LanguageModel"}
            )
        counts[name] = sum(parameter.numel() for parameter in model.parameters())
    assert counts["awd_lstm"] == 33_556_078
    assert counts["awd_lstm_attention"] == pytest.approx(counts["awd_lstm"], rel=1e-3)
    assert counts["small_attention"] == pytest.approx(counts["plain_small"], rel=1e-3)
    # Embedding, 2 layers of 4 gates with two biases, output bias: tied, as in pytorch/examples.
    for name, size in (("small", 200), ("medium", 650), ("large", 1500)):
        assert counts[f"plain_{name}"] == 33_278 * (size + 1) + 2 * (8 * size**2 + 8 * size)


def test_every_yaml_file_of_the_checkout_is_shipped():
    checkout = Path(__file__).parents[1]
    assert {path for _, path in shipped()} == {
        path for kind in ("configs", "recipes") for path in (checkout / kind).rglob("*.yaml")
    }
