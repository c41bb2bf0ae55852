"""Additive scores on a CPU by compiled C++ (native.cpp), built on first use.

The source needs nothing but a C++ compiler, not even torch's headers, so that it builds in half a second;
``torch.compile`` of the same expression takes many seconds, and runs several times slower. The library is kept in the
user's cache under a name that changes with source, compiler and processor. Its threads are torch's.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor

from lightning_rnnattn.ops.additive import blocked
from lightning_rnnattn.ops.additive.exponentials import AdditiveKey, exponential, products_hold

_SOURCE = Path(__file__).with_name("native.cpp")
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=fast", "-fno-trapping-math", "-Wno-psabi")


def score(query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int) -> Tensor:
    """See `lightning_rnnattn.ops.additive.paths.Path`."""
    if not products_hold(query, key.bound):
        return blocked.score(query, key, v, first, last)
    out = query.new_empty(query.shape[0], query.shape[1], key.exp.shape[1])
    _call("additive_score", (exponential(query), key.exp, v, out), (*_sizes(query, key, v), first, last))
    return out


def score_backward(
    grad: Tensor, query: Tensor, key: AdditiveKey, v: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `lightning_rnnattn.ops.additive.paths.Path`."""
    if not products_hold(query, key.bound):
        return blocked.score_backward(grad, query, key, v, first, last)
    grads = (torch.empty_like(query), torch.empty_like(key.exp), query.new_empty(query.shape[0], query.shape[2]))
    arrays = (grad, exponential(query), key.exp, v, *grads)
    _call("additive_score_backward", arrays, (*_sizes(query, key, v), first, last))
    grads[2].add_(grad.sum((1, 2)).unsqueeze(-1))  # v meets tanh = 1 - 2r; the loops sum the second term
    return grads


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled loops, or None where there is no C++ compiler (or it fails, with a warning)."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    if compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_build(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        warnings.warn(f"additive attention runs in eager torch, since {compiler} failed: {detail}", stacklevel=2)
        return None


def _build(compiler: str) -> Path:
    # The predefined macros name the compiler's version and the processor's instructions.
    query = [compiler, *_FLAGS, "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(query, check=True, capture_output=True, timeout=60).stdout
    name = hashlib.sha256(macros + _SOURCE.read_bytes() + " ".join(_FLAGS).encode()).hexdigest()[:16]
    cached = _cache_dir() / f"additive-{name}.so"
    if not cached.exists():
        with tempfile.TemporaryDirectory(dir=cached.parent) as directory:
            fresh = Path(directory) / cached.name
            command = [compiler, *_FLAGS, "-shared", "-fPIC", str(_SOURCE), "-o", str(fresh)]
            try:
                subprocess.run([*command, "-fopenmp"], check=True, capture_output=True, text=True, timeout=120)
            except subprocess.CalledProcessError:  # no OpenMP: one thread
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
            fresh.replace(cached)  # atomic: many processes may start at once
    return cached


def _cache_dir() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(home) / "lightning_rnnattn"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(directory, os.W_OK):
            return directory
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="lightning_rnnattn-"))  # private: what is loaded from here runs as this user


def _sizes(query: Tensor, key: AdditiveKey, v: Tensor) -> tuple[int, int, int, int, int]:
    return query.shape[0], v.shape[0], query.shape[1], key.exp.shape[1], query.shape[2]


def _call(name: str, arrays: tuple[Tensor, ...], sizes: tuple[int, ...]) -> None:
    assert all(x.is_contiguous() and x.dtype is torch.float32 for x in arrays)
    function = getattr(library(), name)
    function(*(ctypes.c_void_p(x.data_ptr()) for x in arrays), *map(ctypes.c_int64, sizes))
