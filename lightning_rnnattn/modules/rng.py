"""The state of every random generator that training may draw from, as tensors."""

import random

import numpy as np
import torch
from torch import Tensor


def collect_rng() -> dict[str, Tensor]:
    """The states of torch's, Python's and numpy's global generators, and of the current CUDA device."""
    _, numpy_state, position, _, _ = np.random.get_state()
    states = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(random.getstate()[1]),
        "numpy": torch.tensor([*map(int, numpy_state), int(position)]),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_rng(states: dict[str, Tensor]) -> None:
    """Puts the generators back into the states of `collect_rng`."""
    # A view into a larger tensor would crash torch.
    torch.set_rng_state(states["torch"].cpu().clone())
    random.setstate((3, tuple(states["python"].tolist()), None))
    *numpy_state, position = states["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(numpy_state, dtype=np.uint32), position, 0, 0.0))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu().clone())
