"""`lightning_rnnattn export`."""

import io
import json
from pathlib import Path

import pytest
import torch

from lightning_rnnattn import Tokenizer, load
from lightning_rnnattn.cli import main

for package in ("onnx", "onnxruntime", "safetensors"):
    pytest.importorskip(package)


def greedy(folder: Path, text: str, steps: int) -> str:
    """What a user of the files alone would write."""
    import onnxruntime

    config = json.loads((folder / "config.json").read_text())
    source_tokenizer, target_tokenizer = (
        Tokenizer.from_str((folder / f"{side}_tokenizer.json").read_text()) for side in ("source", "target")
    )
    encoder, step = (onnxruntime.InferenceSession(str(folder / f"{name}.onnx")) for name in ("encoder", "step"))
    ids = [*source_tokenizer.encode(text), config["source_tokenizer"]["eos_id"]]
    source = torch.tensor([ids]).numpy()
    names = config["graphs"]["encoder"]["outputs"]
    carried = dict(
        zip(names, encoder.run(None, {"source": source, "lengths": torch.tensor([len(ids)]).numpy()}), strict=True)
    )
    token, written = config["target_tokenizer"]["bos_id"], []
    for _ in range(steps):
        found = step.run(None, {"tokens": torch.tensor([[token]]).numpy(), **carried})
        named = dict(zip(config["graphs"]["step"]["outputs"], found, strict=True))
        carried |= {name.removeprefix("next."): x for name, x in named.items() if name.startswith("next.")}
        token = int(named["logits"].argmax())
        if token == config["target_tokenizer"]["eos_id"]:
            break
        written.append(token)
    return target_tokenizer.decode(written)


def test_the_files_translate_on_their_own(translator, capsys, monkeypatch, workdir):
    main(["export", f"--ckpt_path={translator}", "--format=onnx", "--output=made/onnx"])
    assert capsys.readouterr().out.splitlines() == [
        f"made/onnx/{name}"
        for name in ("config.json", "encoder.onnx", "source_tokenizer.json", "step.onnx", "target_tokenizer.json")
    ]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ghij\nab cde\n")))
    main(["translate", f"--ckpt_path={translator}", "--beam_size=1"])
    wanted = capsys.readouterr().out.splitlines()
    assert [greedy(Path("made/onnx"), text, steps=20) for text in ("ghij", "ab cde")] == wanted


def test_a_language_model(checkpoint, workdir):
    main(["export", f"--ckpt_path={checkpoint}", "--format=onnx", "--output=made"])
    assert {path.name for path in Path("made").iterdir()} == {"config.json", "step.onnx", "tokenizer.json"}


def test_safetensors_serve_as_a_checkpoint(checkpoint, capsys, workdir):
    main(["export", f"--ckpt_path={checkpoint}", "--format=safetensors", "--output=made"])
    assert capsys.readouterr().out == "made/config.json\nmade/model.safetensors\n"
    wanted, found = load(checkpoint).state_dict(), load("made").state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    for path in (checkpoint, "made"):
        main(["generate", f"--ckpt_path={path}", "--prompt=ROMEO:", "--max_new_tokens=5"])
    first, second = capsys.readouterr().out.splitlines()[:1], capsys.readouterr()
    assert first
    assert second.err == ""


def test_safetensors_of_a_translation_model(translator, workdir):
    main(["export", f"--ckpt_path={translator}", "--format=safetensors", "--output=made"])
    wanted, found = load(translator), load("made")
    assert found.hparams == wanted.hparams
    assert list(found.text_metrics["val"]) == ["chrf"]
    assert found.target_tokenizer == wanted.target_tokenizer


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--format=onnx"], "the following arguments are required: --output"),
        (
            ["--format=tflite", "--output=made"],
            "--format: invalid choice: 'tflite' (choose from 'onnx', 'safetensors')",
        ),
        (["--format=onnx", "--output=a_file"], "--output a_file: is a file, not a folder"),
    ],
)
def test_mistakes(fails, checkpoint, workdir, args, line):
    Path("a_file").touch()
    assert fails("export", f"--ckpt_path={checkpoint}", *args) == line


@pytest.mark.parametrize(("format", "package"), [("onnx", "onnxruntime"), ("safetensors", "safetensors")])
def test_a_missing_package_says_what_to_install(fails, checkpoint, monkeypatch, workdir, format, package):
    monkeypatch.setattr(f"lightning_rnnattn.export.{format}.find_spec", lambda name: None if name == package else name)
    line = fails("export", f"--ckpt_path={checkpoint}", f"--format={format}", "--output=made")
    assert line == f"--format {format} needs {package}: pip install 'lightning_rnnattn[export]'"
    assert not Path("made").exists()
