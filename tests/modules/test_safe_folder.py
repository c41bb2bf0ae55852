"""Models as safetensors and JSON."""

import json

import pytest

pytest.importorskip("safetensors")

import lightning.pytorch as L
import torch

from lightning_rnnattn import LanguageModel, UserError, load
from lightning_rnnattn.modules import read_checkpoint
from lightning_rnnattn.modules.safe_folder import write_folder
from lightning_rnnattn.tokenizers import CharTokenizer


@pytest.fixture
def folder(tmp_path):
    """A model with tied weights and a tokenizer."""
    model = LanguageModel(5, embedding_size=8, tie_weights=True)
    model.tokenizer = CharTokenizer().train(["abcde"])
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    model.trainer = trainer
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    write_folder(read_checkpoint(tmp_path / "model.ckpt"), tmp_path / "exported")
    return tmp_path / "exported"


def test_loads_as_the_checkpoint_does(folder):
    wanted, found = load(folder.parent / "model.ckpt"), load(folder)
    assert type(found) is LanguageModel
    assert not found.training
    assert found.hparams == wanted.hparams
    assert found.tokenizer == wanted.tokenizer
    assert found.output.weight is found.embedding.weight
    tokens = torch.tensor([[0, 3, 2]])
    assert torch.equal(found(tokens)[0], wanted(tokens)[0])


def test_names_no_class_that_is_not_trusted(folder):
    config = json.loads((folder / "config.json").read_text())
    config["hyper_parameters"]["rnn"] = {"class_path": "antigravity.Balloon"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"antigravity\.Balloon, which is not imported"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.json", b"{"), ("config.json", b"[]"), ("config.json", b"{}"), ("model.safetensors", b"?")],
)
def test_other_folders_say_so(folder, file, content):
    (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=str(folder)):
        load(folder)
    with pytest.raises(UserError, match="not a folder with a model"):
        load(folder.parent)
