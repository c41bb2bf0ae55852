"""What is read is never written over."""

import shutil

import pytest


@pytest.fixture
def copied(workdir, checkpoint):
    """A checkpoint of a language model, which the test may lose."""
    return shutil.copy(checkpoint, workdir / "model.ckpt")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ["predict", "--data.predict_files=[b.txt, a.txt]", "--output=./a.txt"],
            "--output ./a.txt: is what --data.predict_files reads, and would be lost: write to another file",
        ),
        (
            ["predict", "--data.predict_files=[a.txt]", "--output=model.ckpt"],
            "--output model.ckpt: is what --ckpt_path reads, and would be lost: write to another file",
        ),
        (
            ["inspect", "--input=a", "--output=model.ckpt"],
            "--output model.ckpt: is what --ckpt_path reads, and would be lost: write to another file",
        ),
        (
            ["translate", "--alignments=link.jsonl"],
            "--alignments link.jsonl: is what --ckpt_path reads, and would be lost: write to another file",
        ),
    ],
)
def test_an_output_that_is_an_input(workdir, fails, copied, args, line):
    for name in ("a.txt", "b.txt"):
        (workdir / name).write_text("It is.\n")
    (workdir / "link.jsonl").symlink_to("model.ckpt")
    before = {path.name: path.read_bytes() for path in workdir.iterdir()}
    command, *options = args
    assert fails(command, f"--ckpt_path={copied}", *options) == line
    assert before.items() <= {path.name: path.read_bytes() for path in workdir.iterdir() if path.is_file()}.items()
