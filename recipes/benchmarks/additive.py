"""Additive attention against every other way to compute it, and against dot attention.

    python recipes/benchmarks/additive.py [--quick] [--threads N] [--device cuda]

Whole attentions are compared (scores, softmax, values of D features), forward, and forward with the gradients to
query, key, value and v. All ways take turns in one run; a ratio is the median of those within a round. Prints tables,
and writes additive.json and additive.png to runs/benchmarks.
"""

import importlib.util
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import Limits, environment, interleave, parser, peak_memory, save, table
from torch import Tensor
from torch.nn import functional as F

from lightning_rnnattn.ops.additive import additive_attention, additive_attention_reference, additive_key
from lightning_rnnattn.ops.additive.paths import SETTING
from lightning_rnnattn.ops.additive.triton_path import BLOCKS, BLOCKS_SETTING

SIZES = [(32, 25, 25, 512), (32, 50, 50, 512), (32, 64, 128, 256), (8, 200, 200, 512), (8, 1024, 1024, 512)]
QUICK_SIZES = [(32, 25, 25, 512), (4, 100, 100, 256)]
STEP_SIZES = [(64, 1, 25, 512), (8, 1, 1024, 512)]
TILE_SIZE = (8, 200, 200, 512)
COMPILED_SIZES = [(32, 50, 50, 512), (8, 200, 200, 512)]  # each costs minutes of compilation
NAIVE_LIMIT = 1 << 30  # bytes of one (B, T, S, D) tensor, of which a naive backward pass holds several
OURS, NAIVE, DOT = "additive_attention", "naive", "SDPA (dot)"
Size = tuple[int, int, int, int]
Way = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def ours(query: Tensor, key: Tensor, value: Tensor, v: Tensor) -> Tensor:
    """The operation under test."""
    return additive_attention(query, key, value, v)[0]


def blocked(query: Tensor, key: Tensor, value: Tensor, v: Tensor) -> Tensor:
    """The same where there is no compiler."""
    before = os.environ.get(SETTING, "auto")
    os.environ[SETTING] = "blocked"
    try:
        return additive_attention(query, key, value, v)[0]
    finally:
        os.environ[SETTING] = before


def naive(query: Tensor, key: Tensor, value: Tensor, v: Tensor) -> Tensor:
    """The textbook's formula, as the libraries for translation compute it."""
    return additive_attention_reference(query, key, value, v)[0]


def reciprocals(query: Tensor, key: Tensor, value: Tensor, v: Tensor) -> Tensor:
    """The expression that is under test, for torch.compile to fuse."""
    product = (2 * query).exp().unsqueeze(-2) * (2 * key).exp().unsqueeze(-3)
    return (v.sum() - 2 * (v / (1 + product)).sum(-1)).softmax(-1) @ value


def dot(query: Tensor, key: Tensor, value: Tensor, v: Tensor) -> Tensor:
    """Another function, and the price to match."""
    return F.scaled_dot_product_attention(query, key, value)


def keras() -> Way:
    """Keras' layer; its scale is v."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    from keras.layers import AdditiveAttention

    layer = AdditiveAttention()
    return lambda query, key, value, v: layer([query, value, key])


def ways(size: Size, *, compiled: bool) -> dict[str, Way]:
    """What is compared at a size."""
    made = {OURS: ours, "without compiler": blocked, DOT: dot}
    if compiled:
        made["torch.compile(reciprocals)"] = torch.compile(reciprocals, dynamic=False)
    if 4 * math.prod(size) <= NAIVE_LIMIT:
        made[NAIVE] = naive
        if compiled:
            made["torch.compile(naive)"] = torch.compile(naive, dynamic=False)
        if importlib.util.find_spec("keras"):
            made["Keras"] = keras()
    return made


def inputs(size: Size, device: str) -> list[Tensor]:
    """Query, key, value and v."""
    batch, num_queries, num_keys, features = size
    shapes = ((batch, num_queries, features), (batch, num_keys, features), (batch, num_keys, features), (features,))
    return [torch.randn(shape, device=device, requires_grad=True) for shape in shapes]


def forward(way: Way, tensors: list[Tensor]) -> None:
    """One call without gradients."""
    with torch.no_grad():
        way(*tensors)


def forward_backward(way: Way, tensors: list[Tensor], grad: Tensor) -> None:
    """One call with all gradients."""
    torch.autograd.grad(way(*tensors), tensors, grad, allow_unused=True)


def compare(size: Size, options: Any, limits: Limits) -> tuple[str, list[dict[str, Any]]]:
    """Times and memory of every way at one size: a table, and its rows."""
    tensors = inputs(size, options.device)
    grad = torch.randn(*size[:2], size[3], device=options.device)
    chosen = ways(size, compiled=not options.quick and size in COMPILED_SIZES)
    # The floor is one reciprocal for each element, and another one in the backward pass.
    passes = {"forward": (forward, 1), "forward + backward": (partial(forward_backward, grad=grad), 2)}
    rows, results = [], []
    for name, (bind, reciprocals_each) in passes.items():
        calls = {way: partial(bind, function, tensors) for way, function in chosen.items()}
        times = interleave(calls, seconds=3 if options.quick else 8)
        floor = reciprocals_each * math.prod(size) / limits.reciprocal
        for way, taken in times.items():
            memory, ratio = peak_memory(calls[way], options.device), taken.over(times[OURS])
            mib = "" if memory is None else f"{memory / 2**20:.0f}"
            limit = f"{taken.fastest / floor:.2f}" if way == OURS else ""
            rows.append((name, way, str(taken), f"{ratio:.2f}", limit, mib))
            result = {"size": size, "pass": name, "way": way, **taken.summary(), "over_ours": ratio}
            results.append({**result, "floor": floor, "memory": memory})
    header = ("pass", "way", "ms: median (fastest to upper quartile)", "time / ours", "fastest / limit", "peak MiB")
    return f"B×T×S×D = {'×'.join(map(str, size))}\n\n{table(header, rows)}", results


def steps(options: Any) -> str:
    """One query at a time, over keys that were prepared once."""
    rows = []
    for size in STEP_SIZES:
        query, key, value, v = (x.detach() for x in inputs(size, options.device))
        prepared = additive_key(key)
        calls = {
            "keys prepared": lambda: additive_attention(query, prepared, value, v),  # noqa: B023
            "keys as they are": lambda: additive_attention(query, key, value, v),  # noqa: B023
            NAIVE: lambda: naive(query, key, value, v),  # noqa: B023
            DOT: lambda: dot(query, key, value, v),  # noqa: B023
        }
        times = interleave(calls, seconds=2)
        rows += [("×".join(map(str, size)), way, str(taken)) for way, taken in times.items()]
    return "One query (decoding), without gradients\n\n" + table(
        ("B×T×S×D", "way", "ms: median (fastest to upper quartile)"), rows
    )


def tiles(options: Any) -> str:
    """Every tile of the Triton kernels on this card; the best is for LIGHTNING_RNNATTN_ADDITIVE_BLOCKS to name."""
    tensors, grad = inputs(TILE_SIZE, options.device), torch.randn(*TILE_SIZE[:2], TILE_SIZE[3], device=options.device)

    def call(setting: str) -> None:
        os.environ[BLOCKS_SETTING] = setting
        forward_backward(ours, tensors, grad)

    settings = ["x".join(map(str, blocks)) for blocks in BLOCKS]
    times = interleave({setting: partial(call, setting) for setting in settings}, seconds=10)
    os.environ.pop(BLOCKS_SETTING)
    rows = [(name, str(taken), f"{taken.over(times[settings[0]]):.2f}") for name, taken in times.items()]
    title = f"Tiles (queries × keys × features), forward + backward of {'×'.join(map(str, TILE_SIZE))}"
    return f"{title}\n\n{table(('tile', 'ms: median (fastest to upper quartile)', 'time / default'), rows)}"


def growth(options: Any) -> dict[str, Any]:
    """Time and memory of forward + backward against T = S, and the exponents of both."""
    sizes = [64, 128, 256] if options.quick else [64, 128, 256, 512, 1024, 2048]
    curves: dict[str, Any] = {}
    for name, way, largest in ((OURS, ours, 1 << 20), (DOT, dot, 1 << 20), (NAIVE, naive, 512)):
        points = []
        for length in (x for x in sizes if x <= largest):
            size = (2, length, length, 256)
            tensors, grad = inputs(size, options.device), torch.randn(2, length, 256, device=options.device)
            call = partial(forward_backward, way, tensors, grad)
            points.append(
                (length, interleave({name: call}, seconds=1)[name].fastest, peak_memory(call, options.device) or 1)
            )
        curves[name] = {"points": points, "time": exponent(points, 1), "memory": exponent(points, 2)}
    return curves


def exponent(points: list[tuple[int, float, int]], column: int) -> float:
    """The slope of log y against log T, over the larger half of the points."""
    half = points[len(points) // 2 - 1 :]
    x, y = ([math.log(max(point[i], 1e-9)) for point in half] for i in (0, column))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def plot(curves: dict[str, Any], path: Path) -> None:
    """Time and memory against T = S, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for axis, column, scale, label in ((axes[0], 1, 1e3, "ms"), (axes[1], 2, 2**-20, "peak MiB")):
        for name, curve in curves.items():
            axis.loglog([p[0] for p in curve["points"]], [p[column] * scale for p in curve["points"]], "o-", label=name)
        axis.set(xlabel="T = S (B = 2, D = 256)", ylabel=f"forward + backward, {label}")
        axis.grid(which="both", alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Runs everything."""
    options = parser(__doc__.split("\n", 1)[0]).parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    limits = Limits.measure(options.device)
    results: dict[str, Any] = {"environment": environment(options.device), "limits": limits._asdict(), "sizes": []}
    print(results["environment"], limits, sep="\n", end="\n\n")
    for size in QUICK_SIZES if options.quick else SIZES:
        text, rows = compare(size, options, limits)
        results["sizes"] += rows
        print(text, end="\n\n", flush=True)
    print(steps(options), end="\n\n", flush=True)
    if options.device == "cuda":
        print(tiles(options), end="\n\n", flush=True)
    results["growth"] = growth(options)
    rows = [(name, f"{curve['time']:.2f}", f"{curve['memory']:.2f}") for name, curve in results["growth"].items()]
    print(f"Growth with T = S, as exponents\n\n{table(('way', 'time', 'memory'), rows)}\n")
    path = save("additive", options.out, results)
    plot(results["growth"], path.with_suffix(".png"))
    print(f"wrote {path} and {path.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
