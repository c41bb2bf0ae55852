"""Each benchmark runs: what it measures is still there."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "recipes" / "benchmarks"
SHORT = {"memory": ["--context", "32"], "lm": ["--steps", "5", "--settings", "200"], "callbacks": ["--quick"]}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    if path.stem in ("harness", "peers"):
        pytest.skip("what the others share")
    command = [sys.executable, str(path), *SHORT.get(path.stem, ["--quick"])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    assert "|" in done.stdout  # a table
