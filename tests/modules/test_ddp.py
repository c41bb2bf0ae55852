"""Two processes train as one does, and go on where they stopped."""

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = Path(__file__).with_name("ddp_script.py")


def trained(folder, *runs):
    """What `ddp_script.py` leaves of each run: the weights and the validation's metrics."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LIGHTNING_RNNATTN_CACHE": str(folder / "cache")}
    (folder / "text.txt").write_text("to be or not to be, that is the question\n" * 20)
    command = [sys.executable, str(SCRIPT), *runs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"{run}.pt", weights_only=True) for run in runs]


def test_two_processes_equal_one_and_resume_exactly(tmp_path):
    [one] = trained(tmp_path, "one")
    two, whole, _, resumed = trained(tmp_path, "two", "whole", "stopped", "resumed")
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], tensor, atol=1e-5, rtol=0, msg=name)
    assert one["metrics"].keys() == two["metrics"].keys() >= {"val_loss", "val_perplexity"}
    for name, value in one["metrics"].items():
        torch.testing.assert_close(two["metrics"][name], value, atol=1e-5, rtol=1e-5, msg=name)
    for name, tensor in whole["weights"].items():
        assert torch.equal(resumed["weights"][name], tensor), name
