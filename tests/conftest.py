import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"  # for the commands that tests start; models this small lose by more
torch.set_num_threads(1)
hypothesis.settings.register_profile("patient", deadline=None)  # machines are noisy; pytest-timeout ends what hangs
hypothesis.settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test draws the same numbers, alone or in company."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """What a test leaves in the environment is undone: Lightning's ranks would be those of later tests' processes."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
