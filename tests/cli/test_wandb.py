"""Weights & Biases, offline: what a run's files hold, read back with W&B's own program."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import wandb
import yaml
from wandb.sdk.launch.sweeps import utils as sweeps

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.resources import find_shipped

PROGRAMS = Path(sys.executable).parent
RUN = [
    "--config=quickstart.yaml",
    "--config=logger/wandb.yaml",
    "--trainer.logger.offline=true",
    "--trainer.accelerator=cpu",
    "--model.input.embedding_size=8",
    "--model.rnn.hidden_size=16",
    "--data.seq_len=16",
    "--data.batch_size=2",
    "--trainer.limit_val_batches=2",
    "--trainer.val_check_interval=4",
    "--trainer.log_every_n_steps=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


class Files:
    """The files of one offline run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [PROGRAMS / "wandb", "leet", "inspect", "--json", folder]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        self.records = [json.loads(line) for line in lines]

    @functools.cached_property
    def summary(self) -> dict:
        command = [PROGRAMS / "wandb", "leet", "inspect", "--summary", "--json", self.folder]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    @property
    def run_id(self) -> str:
        return self.of("run")[0]["run_id"]

    def of(self, kind: str) -> list:
        return [record[kind] for record in self.records if record["type"] == kind]

    def points(self, key: str) -> list[tuple[int, object]]:
        """The values of a metric, each with its step; of one with parts, those of a part."""
        items = [record["item"] for record in self.of("history")]
        return [(item["trainer/global_step"], item[key]) for item in items if key in item]

    def media(self, path: str) -> Path:
        return self.folder / "files" / path


def fit(*flags: str) -> None:
    main(["fit", *RUN, *flags])
    wandb.finish()


def runs(root: Path) -> list[Files]:
    return [Files(folder) for folder in sorted(root.glob("runs/wandb/offline-run-*"))]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Where a run was made, stopped and taken up again."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("wandb")
        patch.chdir(folder)
        patch.delenv("PL_GLOBAL_SEED", raising=False)
        fit("--trainer.max_steps=8", "--trainer.logger.log_model=true")
        fit("--trainer.max_steps=12", "--ckpt_path=last")
    return folder


@pytest.fixture(scope="module")
def first(workspace):
    return runs(workspace)[0]


@pytest.fixture(scope="module")
def resumed(workspace):
    return runs(workspace)[1]


def test_the_configuration_is_there_once_and_nested(workspace, first):
    (saved,) = workspace.glob("runs/lightning_rnnattn/*/config.yaml")
    config = first.summary["config"]
    assert set(config) == {
        "ckpt_path",
        "data",
        "import",
        "init_from",
        "model",
        "quiet",
        "seed_everything",
        "trainer",
        "weights_only",
    }
    assert config["model"]["init_args"]["attention"]["init_args"]["window"] == 64
    assert config["trainer"]["max_steps"] == 8
    assert any(file["path"] == "run/config.yaml" for record in first.of("files") for file in record["files"])
    copy = yaml.safe_load(first.media("run/config.yaml").read_text())
    assert copy["trainer"]["max_steps"] == 8
    assert copy["model"] == yaml.safe_load(saved.read_text())["model"]  # of the resumed run, in the same folder


def test_metrics_line_up(first):
    for name in ("train_loss", "lr-AdamW", "grad_norm", "tokens_per_second", "data_wait"):
        assert [step for step, _ in first.points(name)] == [1, 3, 5, 7], name
    for name in ("val_loss", "samples.nrows", "attention/example1.filenames"):
        assert [step for step, _ in first.points(name)] == [3, 7], name
    assert all(value > 0 for _, value in first.points("grad_norm"))
    assert {"name": "trainer/global_step", "options": {"defined": True}} in first.of("metric")
    assert first.of("stats"), "system figures"


def test_samples_are_a_table_that_grows(first, resumed):
    assert [rows for _, rows in first.points("samples.nrows")] == [2, 4]
    (_, path) = first.points("samples.path")[-1]
    table = json.loads(first.media(path).read_text())
    assert table["columns"] == ["step", "prompt", "text"]
    assert [row[:2] for row in table["data"]] == [[4, "ROMEO:"], [4, "To be"], [8, "ROMEO:"], [8, "To be"]]
    assert all(text.startswith(prompt) for _, prompt, text in table["data"])
    assert [rows for _, rows in resumed.points("samples.nrows")] == [6]


def test_attention_as_picture_and_page(first):
    for _, (path,) in first.points("attention/example1.filenames"):
        assert first.media(path).read_bytes().startswith(b"\x89PNG")
    pages = first.points("attention/page.path")
    assert [step for step, _ in pages] == [3, 7]
    page = first.media(pages[-1][1]).read_text(encoding="utf-8")
    assert "LanguageModel · step 8" in page
    assert "stylesheet" not in page  # nothing is fetched


def test_checkpoints_are_artifacts_where_that_was_asked_for(first, resumed):
    models = [record for record in first.of("artifact") if record["type"] == "model"]
    assert [sorted(model["aliases"]) for model in models] == [["best", "latest"], ["latest"]]
    for model in models:
        (content,) = model["manifest"]["contents"]
        assert content["path"] == "model.ckpt"
    assert not [record for record in resumed.of("artifact") if record["type"] == "model"]


def test_the_summary_has_the_best_values(first):
    best, losses = first.summary["summary"]["best"], first.points("val_loss")
    step, value = min(losses, key=lambda point: point[1])
    assert best["val_loss"] == value
    assert best["step"] == step + 1  # steps that were made
    assert {"val_perplexity", "val_bpc"} <= best.keys()


def test_a_resumed_run_goes_on_as_the_same_run(workspace, first, resumed):
    assert resumed.run_id == first.run_id
    assert resumed.of("run")[0]["resume"]
    assert [step for step, _ in resumed.points("train_loss")] == [9, 11]
    last = workspace / "runs/lightning_rnnattn" / first.run_id / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 12


@pytest.mark.slow
def test_an_id_that_is_given_wins_over_the_checkpoint_s(workspace, workdir):
    (last,) = workspace.glob("runs/lightning_rnnattn/*/checkpoints/last.ckpt")
    fit(f"--ckpt_path={last}", "--trainer.max_steps=13", "--trainer.logger.id=branch")
    (run,) = runs(workdir)
    assert run.run_id == "branch"


@pytest.mark.slow
def test_two_processes_are_one_run(workdir):
    command = [PROGRAMS / "lightning_rnnattn", "fit", *RUN, "--trainer.max_steps=4", "--config=trainer/ddp.yaml"]
    flags = ["--trainer.accelerator=cpu", "--trainer.devices=2"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = runs(workdir)
    assert [step for step, _ in run.points("train_loss")] == [1, 3]
    assert len(list(workdir.glob("runs/lightning_rnnattn/*/checkpoints/last.ckpt"))) == 1


def test_a_sweep_starts_runs(workdir):
    config = sweeps.load_sweep_config(str(find_shipped("sweeps/quickstart.yaml")))
    spaces = config["parameters"].items()
    chosen = {name: {"value": space["values"][-1] if "values" in space else space["max"]} for name, space in spaces}
    # The command line, as W&B's agent puts it together.
    words = {"${env}": ["/usr/bin/env"], "${args}": sweeps.create_sweep_command_args({"args": chosen})["args"]}
    command = sweeps.create_sweep_command(config["command"])
    env, program, *args = [word for part in command for word in words.get(part, [part])]
    assert (env, program) == ("/usr/bin/env", "lightning_rnnattn")
    assert args[:5] == ["fit", *RUN[0].split("="), *RUN[1].split("=")]
    fit(*args[5:], "--trainer.max_steps=1", "--trainer.callbacks=null")
    settings = runs(workdir)[0].summary["config"]["model"]["init_args"]
    assert settings["attention"]["init_args"]["num_heads"] == chosen["model.attention.num_heads"]["value"]
    assert settings["attention"]["init_args"]["score"]["class_path"].endswith(chosen["model.attention.score"]["value"])
    assert settings["optimizer"]["init_args"]["lr"] == chosen["model.optimizer.lr"]["value"]


def test_another_run_in_the_same_folder(workspace, first, monkeypatch):
    monkeypatch.chdir(workspace)
    fit("--trainer.max_steps=2", "--trainer.callbacks=null")
    assert runs(workspace)[-1].run_id != first.run_id
    assert len(list(workspace.glob("runs/lightning_rnnattn/*/config.yaml"))) == 2
