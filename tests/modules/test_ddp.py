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


def assert_equal(run, other, tolerance=0.0):
    for name, tensor in other["weights"].items():
        torch.testing.assert_close(run["weights"][name], tensor, atol=tolerance, rtol=0, msg=name)
    assert run["metrics"].keys() == other["metrics"].keys() >= {"val_loss", "val_perplexity"}
    for name, value in other["metrics"].items():
        torch.testing.assert_close(run["metrics"][name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_two_processes_equal_one_and_resume_exactly(tmp_path):
    [one] = trained(tmp_path, "one")
    kinds = "two", "whole", "stopped", "resumed"
    two, whole, _, resumed, sharded, sharded_whole, _, sharded_resumed, unsharded = trained(
        tmp_path, *kinds, "sharded", "sharded_whole", "sharded_stopped", "sharded_resumed", "unsharded"
    )
    assert_equal(two, one, 1e-5)
    assert_equal(resumed, whole)
    assert_equal(sharded, one, 1e-5)
    assert_equal(sharded_resumed, sharded_whole)
    assert_equal(unsharded, whole, 1e-5)  # a checkpoint of the one strategy is one of the other
