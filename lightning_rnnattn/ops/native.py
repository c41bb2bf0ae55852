"""C++ loops for CPUs, compiled on first use.

A source needs nothing but a C++ compiler and the header beside this file, not even torch's, so that it builds in half a
second; ``torch.compile`` takes many seconds. A library is kept in the user's cache under a name that changes with
source, header, compiler and processor. Its threads are torch's.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

_HEADER = Path(__file__).with_name("arithmetic.h")
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=fast", "-fno-trapping-math", "-Wno-psabi")


@functools.cache
def load(source: Path, what: str) -> ctypes.CDLL | None:
    """The compiled loops of a source, or None where there is no C++ compiler (or it fails, with a warning).

    Args:
        source: a C++ file in a folder of its own name.
        what: what runs in eager torch without it, for the warning.
    """
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    if compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_build(source, compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        warnings.warn(f"{what} runs in eager torch, since {compiler} failed: {detail}", stacklevel=3)
        return None


def traced() -> bool:
    """Whether a trace is being taken, as for ONNX: other formats know torch's own operations only."""
    return torch.jit.is_tracing()  # type: ignore[attr-defined]  # torch leaves it out of __all__


def takes(*tensors: Tensor) -> bool:
    """Whether loops for float32 take the place of torch's operations: for such tensors on a CPU, outside of traces.

    A compiler that traces fuses operations itself; for other traces see `traced`. Shards, tensors without memory and
    those within a transform of `torch.func` are left to torch.
    """
    if torch.compiler.is_compiling() or traced() or torch._C._are_functorch_transforms_active():
        return False
    plain = all(type(x) in (Tensor, nn.Parameter) for x in tensors)
    return plain and all(x.dtype is torch.float32 and x.device.type == "cpu" for x in tensors)


def autocast_dtype(device: str) -> torch.dtype | None:
    """What autocast multiplies in on a kind of device; None where it is off, as it always is without memory."""
    if device == "meta" or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def upcast(x: Tensor) -> Tensor:
    """Half precision to float32: sums of many terms and exponentials are taken in no less."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def call(library: ctypes.CDLL | None, name: str, arrays: Iterable[Tensor | None], sizes: Iterable[int]) -> None:
    """Calls a loop.

    Args:
        library: see `load`; not None.
        name: the function.
        arrays: its pointers, contiguous and of the dtype that the function takes; None is a null pointer.
        sizes: its 64-bit integers, after the pointers.
    """
    addresses = [None if x is None else x.data_ptr() for x in arrays]
    getattr(library, name)(*map(ctypes.c_void_p, addresses), *map(ctypes.c_int64, sizes))


def _build(source: Path, compiler: str) -> Path:
    # The predefined macros name the compiler's version and the processor's instructions.
    query = [compiler, *_FLAGS, "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(query, check=True, capture_output=True, timeout=60).stdout
    text = macros + source.read_bytes() + _HEADER.read_bytes() + " ".join(_FLAGS).encode()
    name = hashlib.sha256(text).hexdigest()[:16]
    cached = _cache_dir() / f"{source.parent.name}-{name}.so"
    if not cached.exists():
        with tempfile.TemporaryDirectory(dir=cached.parent) as directory:
            fresh = Path(directory) / cached.name
            command = [compiler, *_FLAGS, "-shared", "-fPIC", str(source), "-o", str(fresh)]
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
