"""What reaching further back costs: training and evaluation of a language model by the window of its attention.

    python recipes/benchmarks/window.py [--quick] [--threads N] [--device cuda]

An LSTM of 400 units on 8 streams of 70 steps, scaled dot attention with one head over the last W outputs, most of them
from batches before; and a neural cache of W words instead, which costs in evaluation only. Without the output layer,
whose time depends on the vocabulary alone. The ratios are to the network without attention.
"""

from functools import partial

import torch
from harness import environment, interleave, parser, save, table
from torch import Tensor

from lightning_rnnattn import LSTM, Attention, AttentiveRNN, NeuralCache, Residual, ScaledDotScore
from lightning_rnnattn.layers.past import Past
from lightning_rnnattn.modules.neural_cache import CacheEntries

BATCH, STEPS, SIZE = 8, 70, 400


class Reading:
    """A network, and the past that it carries when the window is full."""

    def __init__(self, window: int, device: str) -> None:
        attention = (
            partial(Attention, score=partial(ScaledDotScore, hidden_size=SIZE), window=window) if window else None
        )
        self.network = AttentiveRNN(SIZE, partial(LSTM, hidden_size=SIZE), attention, Residual).to(device)
        self.x = torch.randn(BATCH, STEPS, SIZE, device=device)
        _, past = self.network(self.x)
        outputs = torch.randn(BATCH, window - 1, SIZE, device=device) if window else None
        self.past = Past(past.rnn, outputs, None).map(Tensor.detach)

    def train(self) -> None:
        features, _ = self.network(self.x, self.past)
        features.sum().backward()

    @torch.no_grad()
    def evaluate(self) -> None:
        self.network(self.x, self.past)


class Caching(Reading):
    """The plain network with a full cache."""

    def __init__(self, size: int, device: str) -> None:
        super().__init__(0, device)
        self.cache = NeuralCache(size=size)
        features, words = (
            torch.randn(BATCH, size, SIZE, device=device),
            torch.randint(9999, (BATCH, size), device=device),
        )
        self.entries = CacheEntries(features, words, torch.ones_like(words, dtype=torch.bool))
        self.targets = torch.randint(9999, (BATCH, STEPS), device=device)

    @torch.no_grad()
    def evaluate(self) -> None:
        features, _ = self.network(self.x, self.past)
        log_probs, mask = torch.zeros_like(features[..., 0]), torch.ones_like(self.targets, dtype=torch.bool)
        self.cache.mix(log_probs, features, self.targets, mask, self.entries)


def main() -> None:
    args = parser(__doc__ or "").parse_args()
    torch.set_num_threads(args.threads)
    windows = [0, 35, 140, 500] if args.quick else [0, 35, 140, 500, 2000, 4000]
    models = {window: Reading(window, args.device) for window in windows}
    caches = {size: Caching(size, args.device) for size in windows if size}
    seconds = 10 if args.quick else 60
    train = interleave({f"train {w}": model.train for w, model in models.items()}, seconds=seconds)
    calls = {f"read {w}": model.evaluate for w, model in models.items()}
    calls |= {f"cache {size}": model.evaluate for size, model in caches.items()}
    read = interleave(calls, seconds=seconds)
    plain_train, plain_read = train["train 0"], read["read 0"]
    rows = []
    for w in windows:
        cached = f"{read[f'cache {w}'].over(plain_read):.2f}" if w else ""
        trained, evaluated = train[f"train {w}"], read[f"read {w}"]
        ratios = f"{trained.over(plain_train):.2f}", f"{evaluated.over(plain_read):.2f}"
        rows.append([str(w), str(trained), ratios[0], str(evaluated), ratios[1], cached])
    print(table(["window", "training, ms", "ratio", "evaluation, ms", "ratio", "cache instead, ratio"], rows))
    timings = {name: timing.summary() for name, timing in {**train, **read}.items()}
    print(save("window", args.out, {**environment(args.device), "seconds": timings}))


if __name__ == "__main__":
    main()
