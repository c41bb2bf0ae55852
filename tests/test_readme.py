import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_rnnattn.cli.resources import find_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_examples_run(code):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_the_reference_is_that_of_the_docstrings():
    command = [sys.executable, str(ROOT / ".ci" / "reference.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "recipes").rglob("README.md"))], ids=str)
def test_links_pictures_and_configs_are_there(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)|<img src=\"([^\"]+)", text):
        assert (path.parent / "".join(target)).exists(), target
    for config in re.findall(r"--config (\S+\.yaml)", text):
        assert find_config(config).is_file()
