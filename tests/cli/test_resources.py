"""Shipped files, found by name."""

from pathlib import Path

import pytest

from lightning_rnnattn.cli import resources
from lightning_rnnattn.cli.resources import find_config, shipped, summary
from lightning_rnnattn.errors import UserError


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "configs/quickstart.yaml"])
def test_from_any_directory(name):
    assert find_config(name) == resources.root() / "configs" / "quickstart.yaml"


def test_recipes_too():
    assert find_config("recipes/wikitext2/awd_lstm") == find_config("wikitext2/awd_lstm.yaml")


def test_a_local_file_wins(workdir):
    (workdir / "quickstart.yaml").write_text("")
    assert find_config("quickstart.yaml") == Path("quickstart.yaml")


def test_nothing_of_that_name():
    with pytest.raises(UserError, match="did you mean trainer/cpu"):
        find_config("trainr/cpu")


def test_installed_from_a_wheel(tmp_path, monkeypatch):
    package = tmp_path / "lightning_rnnattn"
    (package / "cli").mkdir(parents=True)
    (package / "_shipped" / "configs").mkdir(parents=True)
    (package / "_shipped" / "configs" / "mine.yaml").write_text("# What it is.\n")
    monkeypatch.setattr(resources, "__file__", str(package / "cli" / "resources.py"))
    assert [(name, summary(path)) for name, path in shipped()] == [("mine.yaml", "What it is.")]
