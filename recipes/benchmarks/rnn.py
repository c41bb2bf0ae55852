"""The package's recurrent networks against torch's modules, forward and backward.

    python recipes/benchmarks/rnn.py [--quick] [--threads N] [--device cuda]

The same kernels do the work, so what is measured is the price of one interface: states, lengths, layers one by one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from harness import Timing, environment, interleave, parser, save, table
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightning_rnnattn.layers import GRU, LSTM, Elman

SIZES = [(32, 64, 256, 2), (64, 35, 650, 2)]  # B, T, hidden size, layers
QUICK_SIZES = [(8, 16, 64, 2)]
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


def main() -> None:
    """Runs everything."""
    options = parser(__doc__.split("\n", 1)[0]).parse_args()
    torch.set_num_threads(options.threads)
    results: list[dict[str, Any]] = []
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
