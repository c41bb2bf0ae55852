"""What the benchmarks share: interleaved timing, peak memory, the machine's own limits, tables and JSON."""

import argparse
import ctypes
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Timing:
    """Seconds of repeated calls, taken in turn with those of other timings.

    Args:
        samples: one for each round.
    """

    def __init__(self, samples: Sequence[float]) -> None:
        self.samples = list(samples)
        self.median = statistics.median(samples)
        self.fastest = min(samples)

    def over(self, other: "Timing") -> float:
        """The median of the ratios within a round: what disturbs a whole round cancels."""
        return statistics.median(a / b for a, b in zip(self.samples, other.samples, strict=True))

    def __str__(self) -> str:
        upper = statistics.quantiles(self.samples, n=4)[2]
        return f"{1e3 * self.median:.3g} ({1e3 * self.fastest:.3g} to {1e3 * upper:.3g})"

    def summary(self) -> dict[str, float]:
        """For JSON."""
        return {"median": self.median, "fastest": self.fastest, "rounds": len(self.samples)}


def parser(description: str) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="small sizes, few repetitions")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for JSON and plots")
    return made


def interleave(calls: dict[str, Callable[[], Any]], *, seconds: float, at_least: int = 5) -> dict[str, Timing]:
    """Times calls in turn, round after round, so that a disturbance of the machine falls on all alike.

    Args:
        calls: what to time, by name; each is called once beforehand.
        seconds: time to spend, all together.
        at_least: rounds, even if they take longer.
    """
    for call in calls.values():
        _timed(call)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < at_least or (time.perf_counter() < end and rounds < 200):
        for name, call in calls.items():
            samples[name].append(_timed(call))
        rounds += 1
    return {name: Timing(x) for name, x in samples.items()}


def peak_memory(call: Callable[[], Any], device: str) -> int | None:
    """Bytes that a call needs beyond what was allocated before; None where the system does not tell."""
    call()
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # or memory that earlier calls freed would not count
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = _status("VmRSS")
        call()
        return max(0, _status("VmHWM") - before)
    except (OSError, AttributeError):
        return None


def peak_resident() -> int:
    """Bytes that this process had at most; not ``ru_maxrss``, which a child begins with its parent's."""
    return _status("VmHWM")


class Limits(NamedTuple):
    """What the machine does at best, measured: the floor that a kernel's time is compared with."""

    matmul: float  # floating-point operations per second of a float32 matrix product
    copy: float  # bytes per second, read and written
    reciprocal: float  # reciprocals per second, of numbers in the cache

    @classmethod
    def measure(cls, device: str) -> "Limits":
        """Takes about a second."""
        matrix = torch.rand(2048, 2048, device=device)
        large, target = torch.rand(1 << 26, device=device), torch.empty(1 << 26, device=device)
        # 2^16 for each thread: torch splits work between threads in pieces of no less than 2^15.
        cached = torch.rand((1 << 16) * torch.get_num_threads() if device == "cpu" else 1 << 24, device=device) + 1

        def reciprocals() -> None:
            for _ in range(50):
                cached.reciprocal_()

        calls = {"matmul": lambda: matrix @ matrix, "copy": lambda: target.copy_(large), "reciprocal": reciprocals}
        taken = interleave(calls, seconds=1.0)
        return cls(
            2 * 2048**3 / taken["matmul"].fastest,
            8 * large.numel() / taken["copy"].fastest,
            50 * cached.numel() / taken["reciprocal"].fastest,
        )

    def __str__(self) -> str:
        return (
            f"matrix product {self.matmul / 1e9:.0f} GFLOP/s, copy {self.copy / 1e9:.1f} GB/s, "
            f"reciprocals {self.reciprocal / 1e9:.2f} G/s"
        )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(x.ljust(width) for x, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def environment(device: str) -> dict[str, Any]:
    """Where and how a benchmark ran."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def save(name: str, folder: Path, results: dict[str, Any]) -> Path:
    """Writes ``name``.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def _timed(call: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).split(":")[1].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
