"""The dispatcher: what answers without torch, and the program as a real command."""

import subprocess
import sys

import pytest

import lightning_rnnattn
from lightning_rnnattn.cli import COMMANDS, main


def test_help_names_every_command(capsys):
    main(["--help"])
    out = capsys.readouterr().out
    assert all(f"  {command}" in out for command in COMMANDS)


def test_no_arguments_is_help(capsys):
    main([])
    assert capsys.readouterr().out.startswith("usage: lightning_rnnattn")


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["recipes"], ["generate", "--help"]])
def test_light_commands_import_neither_torch_nor_lightning(args):
    code = (
        "import sys; from lightning_rnnattn.cli import main\n"
        f"try: main({args})\nexcept SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'lightning', 'jsonargparse'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_version_as_a_real_command():
    done = subprocess.run([sys.executable, "-m", "lightning_rnnattn", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"lightning_rnnattn {lightning_rnnattn.__version__}"


def test_a_mistake_as_a_real_command():
    done = subprocess.run(
        [sys.executable, "-m", "lightning_rnnattn", "recipes", "cpoy"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_unknown_command(fails):
    assert fails("fitt").startswith("no command 'fitt'; did you mean fit?")


def test_arguments_are_left_alone():
    args = ["recipes"]
    main(args)
    assert args == ["recipes"]
