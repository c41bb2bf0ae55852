"""The package's recurrent networks against torch's modules, forward and backward.

    python recipes/benchmarks/rnn.py [--quick] [--threads N] [--device cuda]

Elman, LSTM and GRU run torch's kernels, so what is measured is the price of one interface: states, lengths, layers one
by one. MinGRU and MinLSTM are scans: they are measured against nn.GRU of their size over the 784 pixels of an MNIST
image, and over sequences of growing length. ZoneoutLSTM and LayerNormLSTM, which no kernel of torch's runs, are loops
in Python, measured against nn.LSTM.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import Timing, environment, interleave, parser, save, table
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightning_rnnattn.layers import GRU, LSTM, Elman, LayerNormLSTM, MinGRU, MinLSTM, ZoneoutLSTM

SIZES = [(32, 64, 256, 2), (64, 35, 650, 2), (50, 400, 128, 1)]  # B, T, hidden size, layers
QUICK_SIZES = [(8, 16, 64, 2)]
PIXELS = [(32, 784, 1, 128, 1), (32, 784, 128, 128, 2), (16, 784, 256, 256, 2)]  # B, T, input and hidden size, layers
QUICK_PIXELS = [(8, 64, 1, 32, 1)]
LOOPS, QUICK_LOOPS = [(20, 35, 200, 2), (20, 35, 650, 2), (32, 150, 128, 1)], [(4, 8, 16, 1)]  # as SIZES
LENGTHS, QUICK_LENGTHS = (392, 784, 1568, 3136), (32, 64, 128)
KINDS = ((Elman, nn.RNN), (LSTM, nn.LSTM), (GRU, nn.GRU))


def step(network: Callable[[Tensor], Any], parameters: list[Tensor], x: Tensor) -> None:
    """Forward and backward."""
    torch.autograd.grad(network(x)[0].sum(), parameters)


def packed(kernel: nn.RNNBase, lengths: Tensor, x: Tensor) -> tuple[Tensor, Any]:
    """Padded sequences as torch's manual has them."""
    output, state = kernel(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    return pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])[0], state


def pairs(size: tuple[int, int, int, int], device: str) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    """Ours and torch's, by name."""
    batch, steps, hidden, layers = size
    x = torch.randn(batch, steps, hidden, device=device)
    lengths = torch.randint(1, steps + 1, (batch,))
    lengths[0] = steps
    made = {}
    for ours, theirs in KINDS:
        mine = ours(hidden, hidden, num_layers=layers).to(device)
        kernel = theirs(hidden, hidden, layers, batch_first=True).to(device)
        weights, kernel_weights = list(mine.parameters()), list(kernel.parameters())
        name = ours.__name__
        made[name] = (partial(step, mine, weights, x), partial(step, kernel, kernel_weights, x))
        made[f"{name}, lengths"] = (
            partial(step, partial(mine, lengths=lengths), weights, x),
            partial(step, partial(packed, kernel, lengths), kernel_weights, x),
        )
    return made


def call(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """A training step of a network, without the optimizer's."""
    return partial(step, network, list(network.parameters()), x)


def scans(size: tuple[int, ...], device: str) -> dict[str, Callable[[], None]]:
    """Parallel-scan cells, and torch's cells of their size."""
    batch, steps, features, hidden, layers = size
    x = torch.randn(batch, steps, features, device=device)
    made: dict[str, nn.Module] = {
        kind.__name__: kind(features, hidden, num_layers=layers) for kind in (MinGRU, MinLSTM)
    }
    made |= {f"nn.{kind.__name__}": kind(features, hidden, layers, batch_first=True) for kind in (nn.GRU, nn.LSTM)}
    return {name: call(network.to(device), x) for name, network in made.items()}


def growth(lengths: tuple[int, ...], device: str) -> dict[str, tuple[float, dict[int, Timing]]]:
    """For each kind of network, p of the time's growth as length^p (by least squares), and the times."""
    networks = {"MinGRU": MinGRU(64, 128), "MinLSTM": MinLSTM(64, 128), "nn.GRU": nn.GRU(64, 128, batch_first=True)}
    inputs = {length: torch.randn(16, length, 64, device=device) for length in lengths}
    keys = [(name, length) for name in networks for length in lengths]
    calls = {f"{name} {length}": call(networks[name].to(device), inputs[length]) for name, length in keys}
    times = interleave(calls, seconds=8)
    found = {}
    for name in networks:
        own = {length: times[f"{name} {length}"] for length in lengths}
        logs = [math.log(timing.fastest) for timing in own.values()]
        found[name] = (float(np.polyfit(np.log(lengths), logs, 1)[0]), own)
    return found


def main() -> None:
    """Runs everything."""
    options = parser(__doc__.split("\n", 1)[0]).parse_args()
    torch.set_num_threads(options.threads)
    results: list[dict[str, Any]] = []
    for size in QUICK_PIXELS if options.quick else PIXELS:
        times = interleave(scans(size, options.device), seconds=8)
        print(f"B×T×input×hidden×layers = {'×'.join(map(str, size))}\n")
        rows = [(name, str(timing), f"{times['nn.GRU'].over(timing):.1f}") for name, timing in times.items()]
        print(table(("network", "ms", "times as fast as nn.GRU"), rows), end="\n\n", flush=True)
        results += [{"size": size, "network": name, **timing.summary()} for name, timing in times.items()]
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    rows = []
    for name, (exponent, by_length) in growth(lengths, options.device).items():
        rows.append((name, *(f"{1e3 * timing.fastest:.3g}" for timing in by_length.values()), f"{exponent:.2f}"))
        results.append({"network": name, "exponent": exponent, "fastest": [t.fastest for t in by_length.values()]})
    print("B×input×hidden×layers = 16×64×128×1, fastest of the rounds in ms; time grows as T^p\n")
    print(table(("network", *(f"T = {length}" for length in lengths), "p"), rows), end="\n\n", flush=True)
    rows = []
    for size in QUICK_LOOPS if options.quick else LOOPS:
        batch, steps, hidden, layers = size
        x = torch.randn(batch, steps, hidden, device=options.device)
        networks = {kind.__name__: kind(hidden, hidden, num_layers=layers) for kind in (ZoneoutLSTM, LayerNormLSTM)}
        networks["nn.LSTM"] = nn.LSTM(hidden, hidden, layers, batch_first=True)
        times = interleave({name: call(each.to(options.device), x) for name, each in networks.items()}, seconds=8)
        for name, timing in times.items():
            rows.append(("×".join(map(str, size)), name, str(timing), f"{timing.over(times['nn.LSTM']):.2f}"))
            results.append({"size": size, "network": name, **timing.summary()})
    print(table(("B×T×hidden×layers", "network", "ms", "time / nn.LSTM"), rows), end="\n\n", flush=True)
    for size in QUICK_SIZES if options.quick else SIZES:
        rows = []
        for name, (mine, theirs) in pairs(size, options.device).items():
            times: dict[str, Timing] = interleave({"ours": mine, "torch": theirs}, seconds=3)
            ratio = times["ours"].over(times["torch"])
            rows.append((name, str(times["ours"]), str(times["torch"]), f"{ratio:.2f}"))
            results.append({"size": size, "network": name, "ratio": ratio, "ours": times["ours"].summary()})
        print(f"B×T×hidden×layers = {'×'.join(map(str, size))}\n")
        print(table(("network", "ours, ms", "torch, ms", "ours / torch"), rows), end="\n\n", flush=True)
    print(f"wrote {save('rnn', options.out, {'environment': environment(options.device), 'rows': results})}")


if __name__ == "__main__":
    main()
