import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_two_processes_leave_one_run(tmp_path):
    script = Path(__file__).with_name("ddp_script.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The run is done:") == 1
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "predictions.jsonl",
        "runs/version_0/attention/attention.html",
        "runs/version_0/attention/example1_step0000004.png",
        "runs/version_0/attention/example1_step0000008.png",
        "runs/version_0/checkpoints/best.ckpt",
        "runs/version_0/checkpoints/last.ckpt",
        "runs/version_0/metrics.csv",
        "runs/version_0/metrics.png",
        "runs/version_0/samples.md",
    ]
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [line["document"] for line in lines] == ["0", "1", "2", "3"]
    assert (tmp_path / "runs/version_0/samples.md").read_text().count("## Step") == 2
