import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from torch import nn

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


@pytest.fixture
def assert_drops() -> Callable[..., None]:
    """A check that dropout between two layers is on in training, and only there."""

    def check(model: nn.Module, run: Callable[[], object], p: float, before: nn.Module | None, behind: nn.Module):
        """Compares what ``behind`` reads with what ``before`` made; without it, with what is read in evaluation."""
        made, read = [], []
        if before is not None:
            before.register_forward_hook(lambda _, args, out: made.append(out[0] if isinstance(out, tuple) else out))
        behind.register_forward_pre_hook(lambda _, args: read.append(args[0]))
        for training in (True, True, False, False):
            model.train(training)
            run()
        first, second, exact, again = read
        whole, _, undropped, _ = made or 4 * [exact]
        assert torch.equal(exact, again)
        assert torch.equal(exact, undropped)
        kept = first != 0
        assert kept[whole != 0].double().mean() == pytest.approx(1 - p, abs=0.1)
        torch.testing.assert_close(first, whole * kept / (1 - p))
        assert not torch.equal(kept, second != 0)

    return check


@pytest.fixture
def samples(tmp_path) -> Path:
    """A folder with a file or two for each kind of data module."""
    (tmp_path / "text.txt").write_text("It is a truth universally acknowledged\n" * 60)
    tagged = (("It", "PRON"), ("is", "AUX"), ("a", "DET"), ("truth", "NOUN"))
    words = (f"{i}\t{word}\t_\t{label}" + 6 * "\t_" + "\n" for i, (word, label) in enumerate(tagged, start=1))
    (tmp_path / "tags.conllu").write_text(("".join(words) + "\n") * 5)
    (tmp_path / "labels.txt").write_text("1 a fine film\n0 a dull one\n" * 3)
    (tmp_path / "mnist").mkdir()
    for part in ("train", "t10k"):
        pixels, labels = bytes(range(16)) * 8, bytes([0, 1] * 4)
        (tmp_path / f"mnist/{part}-images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 8, 4, 4) + pixels)
        (tmp_path / f"mnist/{part}-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 8) + labels)
    return tmp_path
