"""What is read is never written over."""

import shutil

import pytest

from lightning_rnnattn.cli import main


@pytest.fixture
def copied(workdir, checkpoint):
    """A checkpoint of a language model, which the test may lose."""
    return shutil.copy(checkpoint, workdir / "model.ckpt")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["predict", "--data.predict_files=[b.txt, a.txt]", "--output=./a.txt"],
            "--output ./a.txt: --data.predict_files reads this file, which would be lost: write to another",
        ),
        (
            ["predict", "--data.predict_files=[a.txt]", "--output=model.ckpt"],
            "--output model.ckpt: --ckpt_path reads this file, which would be lost: write to another",
        ),
        (
            ["predict", '--data.predict_files=["*.txt"]', "--output=b.txt"],
            "--output b.txt: --data.predict_files reads this file, which would be lost: write to another",
        ),
        (
            ["predict", "--config=flags.yaml", "--output=flags.yaml"],
            "--output flags.yaml: --config reads this file, which would be lost: write to another",
        ),
        (
            ["inspect", "--input=a", "--output=model.ckpt"],
            "--output model.ckpt: --ckpt_path reads this file, which would be lost: write to another",
        ),
        (
            ["translate", "--alignments=link.jsonl"],
            "--alignments link.jsonl: --ckpt_path reads this file, which would be lost: write to another",
        ),
    ],
)
def test_an_output_that_is_an_input(workdir, fails, copied, args, line):
    for name in ("a.txt", "b.txt"):
        (workdir / name).write_text("It is.\n")
    (workdir / "flags.yaml").write_text("data: {init_args: {predict_files: a.txt}}\n")
    (workdir / "link.jsonl").symlink_to("model.ckpt")
    before = {path.name: path.read_bytes() for path in workdir.iterdir()}
    command, *options = args
    assert fails(command, f"--ckpt_path={copied}", *options) == line
    assert before.items() <= {path.name: path.read_bytes() for path in workdir.iterdir() if path.is_file()}.items()


@pytest.mark.parametrize(("command", "option"), [("translate", "--alignments"), ("inspect", "--output")])
def test_an_output_that_is_standard_input(workdir, fails, checkpoint, monkeypatch, command, option):
    (workdir / "source.txt").write_text("It is.\n")
    with open("source.txt") as file:
        monkeypatch.setattr("sys.stdin", file)
        line = fails(command, f"--ckpt_path={checkpoint}", f"{option}=source.txt")
    assert line == f"{option} source.txt: standard input reads this file, which would be lost: write to another"
    assert (workdir / "source.txt").read_text() == "It is.\n"


@pytest.mark.parametrize(
    ("output", "why"),
    [("folder", "is a folder: name a file"), ("a.txt/b", "Not a directory"), ("/dev/null", "is no file: name a file")],
)
def test_predictions_that_cannot_be_written(workdir, fails, checkpoint, output, why):
    (workdir / "a.txt").write_text("It is.\n")
    (workdir / "folder").mkdir()
    line = fails("predict", f"--ckpt_path={checkpoint}", "--data.predict_files=a.txt", f"--output={output}")
    assert line in (f"--output {output}: {why}", f"--output {output}: File exists")


@pytest.mark.parametrize("args", [["predict", "--data.predict_files=a.txt"], ["inspect", "--input=It is."]])
def test_outputs_go_where_a_link_points(workdir, checkpoint, args):
    (workdir / "a.txt").write_text("It is.\n")
    (workdir / "link.jsonl").symlink_to("there.jsonl")
    main([*args, f"--ckpt_path={checkpoint}", "--output=link.jsonl"])
    assert (workdir / "link.jsonl").is_symlink()
    assert (workdir / "there.jsonl").read_text()
