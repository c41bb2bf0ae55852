"""A project outside the package: a score and a model of one's own, in files that only the user's folder has."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.resources import find_config

PROJECT = Path(__file__).parents[1] / "user_project"
OWN_MODULES = ("models_of_mine", "scores_of_mine")


@pytest.fixture
def project(workdir, monkeypatch):
    """A copy of the project, as the working directory; its modules are forgotten again."""
    for file in PROJECT.iterdir():
        if file.is_file():
            shutil.copy(file, workdir)
    yield workdir
    for name in OWN_MODULES:
        sys.modules.pop(name, None)


def test_as_a_real_command(project):
    program = Path(sys.executable).with_name("lightning_rnnattn")  # whose sys.path lacks the working directory
    fit = subprocess.run([program, "fit", "--config", "run.yaml"], capture_output=True, text=True, check=False)
    assert fit.returncode == 0, fit.stderr
    last = "runs/version_0/checkpoints/last.ckpt"
    hparams = torch.load(last, weights_only=True)["hyper_parameters"]
    assert hparams["_class_path"] == "models_of_mine.CautiousLanguageModel"
    assert hparams["attention"]["init_args"]["score"]["class_path"] == "scores_of_mine.NegativeDistance"

    refused = subprocess.run(
        [program, "generate", "--ckpt_path", last, "--prompt", "a"], capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--import models_of_mine" in refused.stderr or "--import scores_of_mine" in refused.stderr


def test_own_default_attention_survives(project, fit):
    fit("--import=models_of_mine", "--model=CautiousLanguageModel", "--data=TinyShakespeare", "--data.seq_len=8")
    model = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["hyper_parameters"]
    assert model["attention"]["init_args"]["score"]["class_path"] == "scores_of_mine.NegativeDistance"
    assert model["attention"]["init_args"]["window"] == 5
    assert model["caution"] == 0.1
    main(
        [
            "test",
            "--import=models_of_mine",
            "--ckpt_path=runs/version_0/checkpoints/last.ckpt",
            "--trainer.limit_test_batches=1",
        ]
    )


def test_model_without_vocab_size(project, fit):
    fit("--import=models_of_mine", "--model=FixedVocabulary", "--data=TinyShakespeare", "--data.seq_len=8")
    main(
        [
            "test",
            "--import=models_of_mine",
            "--ckpt_path=runs/version_0/checkpoints/last.ckpt",
            "--trainer.limit_test_batches=1",
        ]
    )


def test_every_later_command_takes_import(project, capsys):
    main(["fit", "--config=run.yaml"])
    last = "--ckpt_path=runs/version_0/checkpoints/last.ckpt"
    own = "--import=models_of_mine"
    main(["test", own, last])
    main(["predict", own, last, "--data.predict_files=notes.txt", "--output=notes.jsonl"])
    main(["generate", own, last, "--prompt=It is", "--max_new_tokens=5"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("It is")
    (document,) = map(json.loads, Path("notes.jsonl").read_text().splitlines())
    assert document["document"] == "notes.txt"
    main(["fit", own, last, "--trainer.max_steps=3", "--trainer.accelerator=cpu"])
    assert torch.load("runs/version_1/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3


def test_saved_config_repeats_the_run(project):
    main(["fit", "--config=run.yaml", "--seed_everything=3"])
    saved = Path("runs/version_0/config.yaml")
    assert yaml.safe_load(saved.read_text())["import"] == ["models_of_mine"]
    main(["fit", f"--config={saved}"])
    first, second = (
        torch.load(f"runs/version_{i}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for i in (0, 1)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_data_that_no_checkpoint_records_must_be_given_again(project, fit, fails):
    Path("data_of_mine.py").write_text(
        "import lightning.pytorch as L, torch\n"
        "from lightning_rnnattn.data import TinyShakespeare\n"
        "class Unrecorded(L.LightningDataModule):\n"
        "    def train_dataloader(self):\n"
        "        data = TinyShakespeare(seq_len=8)\n"
        "        data.prepare_data(), data.setup('fit')\n"
        "        return data.train_dataloader()\n"
    )
    fit("--import=models_of_mine", "--import=data_of_mine", "--model=FixedVocabulary", "--data=Unrecorded")
    last = "runs/version_0/checkpoints/last.ckpt"
    line = fails("predict", "--import=models_of_mine", f"--ckpt_path={last}")
    assert line.startswith("--data is missing: give a class")
    assert line.endswith(f"; {last} records none, as its data module is no RecordedDataModule")
    sys.modules.pop("data_of_mine")


def test_a_user_s_part_is_told_by_its_class(project, fit):
    Path("mine.yaml").write_text("class_path: models_of_mine.FixedVocabulary\n")
    fit("--config=mine.yaml", "--config=data/tinyshakespeare")
    assert find_config("mine.yaml") == Path("mine.yaml")
    saved = yaml.safe_load(Path("runs/version_0/config.yaml").read_text())
    assert saved["model"]["class_path"] == "models_of_mine.FixedVocabulary"
