"""`lightning_rnnattn ensemble`."""

import io
import json
import os
from pathlib import Path

import pytest
import torch

from lightning_rnnattn import Ensemble, Greedy, Seq2Seq, load
from lightning_rnnattn.cli import main
from lightning_rnnattn.modules import read_checkpoint

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture
def members(translator, workdir):
    """Two checkpoints with weights that differ."""
    checkpoint = read_checkpoint(translator)
    torch.manual_seed(0)
    for tensor in checkpoint["state_dict"].values():
        tensor += 0.2 * torch.randn_like(tensor)
    torch.save(checkpoint, "other.ckpt")
    return [translator, "other.ckpt"]


@pytest.fixture
def ensemble(members, capsys):
    """A checkpoint of both."""
    main(["ensemble", "--ckpt_path", *members, "--output=made/both.ckpt"])
    assert capsys.readouterr().out == "made/both.ckpt\n"
    assert os.listdir("made") == ["both.ckpt"]
    return "made/both.ckpt"


def test_the_file_alone_is_the_model(ensemble, members, translator):
    made = load(ensemble)
    assert type(made) is Ensemble
    assert [type(each) for each in made.members] == [Seq2Seq, Seq2Seq]
    assert made.search == load(translator).search
    for path, each in zip(members, made.members, strict=True):
        for name, tensor in load(path).state_dict().items():
            assert torch.equal(each.state_dict()[name], tensor)


def test_it_is_tested_and_writes_as_any_other(ensemble, capsys, monkeypatch):
    Path("source.txt").write_text("ab cde\nghij\nf\n")
    Path("target.txt").write_text("EDC BA\nJIHG\nF\n")
    files = ["--data.test_source=source.txt", "--data.test_target=target.txt", "--data.predict_source=source.txt"]
    main(["test", f"--ckpt_path={ensemble}", *files, *QUIET])
    out = capsys.readouterr().out
    assert "test_chrf" in out
    assert "test_loss" in out

    beam = ["--model.search=BeamSearch", "--model.search.beam_size=5", "--model.search.max_length=20"]
    main(["predict", f"--ckpt_path={ensemble}", *files, *QUIET, *beam, "--output=said.txt"])
    capsys.readouterr()
    source = Path("source.txt").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(source)))
    main(["translate", f"--ckpt_path={ensemble}", "--beam_size=5", "--alignments=looked.jsonl"])
    assert capsys.readouterr().out == Path("said.txt").read_text()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(source)))
    main(["translate", f"--ckpt_path={ensemble}", "--int8"])
    assert capsys.readouterr().out.count("\n") == 3
    for line in Path("looked.jsonl").read_text().splitlines():
        weights = torch.tensor(json.loads(line)["weights"])
        torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_the_other_commands_take_it(ensemble, translator, capsys):
    main(["inspect", f"--ckpt_path={ensemble}", "--input=ab cde", "--output=page.html"])
    main(["describe", f"--ckpt_path={ensemble}"])
    out = capsys.readouterr().out
    parameters = sum(parameter.numel() for parameter in load(translator).parameters())
    assert f"{2 * parameters:,}" in out
    main(["export", f"--ckpt_path={ensemble}", "--format=safetensors", "--output=weights"])
    assert type(load("weights")) is Ensemble


@pytest.mark.slow
def test_training_may_begin_from_it(ensemble, translator, fails):
    data = Path(translator).parents[3]
    files = [f"--data.train_source={data}/source.txt", f"--data.train_target={data}/target.txt"]
    options = [
        "--data=PairDataModule",
        *files,
        "--data.val_fraction=0.1",
        "--data.lowercase=false",
        "--trainer.max_steps=2",
    ]
    main(["fit", f"--init_from={ensemble}", *options, *QUIET])
    (last,) = Path.cwd().rglob("last.ckpt")
    assert fails("fit", f"--ckpt_path={ensemble}", *files, *QUIET).endswith(
        "alone, from which --init_from starts a run"
    )
    before, after = load(ensemble), load(last)
    assert type(after) is Ensemble
    assert all(not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_the_option_may_be_repeated(members, ensemble):
    main(["ensemble", f"--ckpt_path={members[0]}", f"--ckpt_path={members[1]}", "--output=again.ckpt"])
    assert len(load("again.ckpt").members) == 2


def test_mistakes(fails, members, ensemble, checkpoint, translator):
    mine = members[1]
    output = "--output=new/x.ckpt"

    def fails_with(*paths):
        return fails("ensemble", "--ckpt_path", *paths, output)

    assert "--ckpt_path reads this file, which would be lost" in fails(
        "ensemble", f"--ckpt_path={mine}", f"--output={mine}"
    )
    cannot = fails_with(mine, checkpoint)
    assert cannot == f"--ckpt_path {checkpoint}: LanguageModel cannot be a member of an ensemble, Seq2Seq can"
    assert "Ensemble cannot be a member" in fails_with(ensemble)
    assert "no such checkpoint file" in fails_with(mine, "none.ckpt")

    other = read_checkpoint(translator)
    text = other["vocabularies"]["target_tokenizer"]
    other["vocabularies"]["target_tokenizer"] = text.replace('"J"', '"?"')
    assert other["vocabularies"]["target_tokenizer"] != text
    torch.save(other, "foreign.ckpt")
    assert fails_with(mine, "foreign.ckpt") == f"--ckpt_path foreign.ckpt: its target tokenizer is not that of {mine}"
    del other["vocabularies"]
    torch.save(other, "early.ckpt")
    assert fails_with("early.ckpt", mine).startswith("--ckpt_path early.ckpt: has no source tokenizer")
    assert not Path("new").exists()

    main(["export", f"--ckpt_path={mine}", "--format=safetensors", "--output=weights"])
    for file in ("model.safetensors", "config.json"):
        assert "would be lost" in fails("ensemble", "--ckpt_path=weights", f"--output=weights/{file}")
    assert "onnx knows language models and" in fails("export", f"--ckpt_path={ensemble}", "--format=onnx", "--output=x")


def test_a_member_of_before_a_setting_was_there(members):
    checkpoint = read_checkpoint(members[1])
    del checkpoint["hyper_parameters"]["search"]
    torch.save(checkpoint, "older.ckpt")
    main(["ensemble", "--ckpt_path=older.ckpt", "--output=x.ckpt"])
    assert load("x.ckpt").search == Greedy()
