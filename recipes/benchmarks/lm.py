"""Language-model training, its data pipeline and generation, each against a named alternative in the same run.

    python recipes/benchmarks/lm.py [--steps 14] [--settings 200 650 awd] [--precision bf16-mixed] [--threads 2]

Training is an LSTM on a vocabulary of 33,278 (WikiText-2's), plain SGD with clipping: 2 layers of 200 or 650 units and
20 streams of 35 steps, or the tied 400-1150-1150-400 of AWD-LSTM and 80 streams of 70 steps. `LanguageModel` in
Lightning's Trainer, overhead included, against the same mathematics in a plain torch loop, as in pytorch/examples. The
two take turns batch by batch, on the same batches, so that a change of the machine's speed meets both. Memory is the
peak of a process that does one of them only.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn

from lightning_rnnattn import LSTM, Attention, LanguageModel, TokenEmbedding
from lightning_rnnattn.data import TokenBatch, TokenBatches

VOCAB = 33_278
CLIP = 0.25


class Setting(NamedTuple):
    """A model's sizes, and a batch's."""

    embedding: int
    hidden: int
    layers: int
    last: int
    tied: bool
    batch: int
    steps: int


SETTINGS = {
    "200": Setting(200, 200, 2, 200, tied=False, batch=20, steps=35),
    "650": Setting(650, 650, 2, 650, tied=False, batch=20, steps=35),
    "awd": Setting(400, 1150, 3, 400, tied=True, batch=80, steps=70),
}


States = list[tuple[Tensor, Tensor]]


class PlainModel(nn.Module):
    """Embedding, LSTM, decoder: the loop that everybody writes."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, setting.embedding)
        sizes = [setting.embedding, *[setting.hidden] * (setting.layers - 1), setting.last]
        self.rnns = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in pairwise(sizes))
        self.decoder = nn.Linear(setting.last, VOCAB)
        if setting.tied:
            self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor, states: States | None) -> tuple[Tensor, States]:
        x, new = self.embedding(tokens), []
        for i, rnn in enumerate(self.rnns):
            x, state = rnn(x, None if states is None else states[i])
            new.append(state)
        return self.decoder(x), new


class PlainLoop:
    """One step of training at a time."""

    def __init__(self, setting: Setting, precision: str) -> None:
        self.model = PlainModel(setting)
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.states: States | None = None

    def __call__(self, batch: TokenBatch) -> None:
        self.optimizer.zero_grad()
        states = None if self.states is None else [(h.detach(), c.detach()) for h, c in self.states]
        with self.autocast:
            logits, self.states = self.model(batch.tokens, states)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()


class TakingTurns:
    """A loader that lets another way of training have each batch, too, and times both."""

    def __init__(self, batches: TokenBatches, other: Callable[[TokenBatch], None] | None, steps: int) -> None:
        self.batches, self.other, self.steps = batches, other, steps
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[TokenBatch]:
        for batch, _ in zip(self.batches, range(self.steps), strict=False):
            if self.other is not None:
                start = time.perf_counter()
                self.other(batch)
                self.theirs.append(time.perf_counter() - start)
            start = time.perf_counter()
            yield batch
            self.ours.append(time.perf_counter() - start)


def our_model(setting: Setting) -> LanguageModel:
    return LanguageModel(
        VOCAB,
        partial(TokenEmbedding, embedding_size=setting.embedding),
        rnn=partial(LSTM, hidden_size=setting.hidden, num_layers=setting.layers, last_size=setting.last),
        tie_weights=setting.tied,
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )


def trainer(folder: str, precision: str) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        precision=precision,  # type: ignore[arg-type]
        max_epochs=1,
        gradient_clip_val=CLIP,
        logger=L.loggers.CSVLogger(folder),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def batches(setting: Setting) -> TokenBatches:
    size = setting.batch * setting.steps * 200 + 1
    tokens = np.random.default_rng(0).integers(VOCAB, size=size, dtype=np.uint16)
    return TokenBatches(tokens, setting.batch, setting.steps)


def training(setting: Setting, steps: int, precision: str) -> dict[str, float]:
    """Tokens per second of both, and their ratio batch by batch."""
    torch.manual_seed(0)
    loader = TakingTurns(batches(setting), PlainLoop(setting, precision), steps)
    with tempfile.TemporaryDirectory() as folder:
        trainer(folder, precision).fit(our_model(setting), loader)
    ours, theirs = loader.ours[2:], loader.theirs[2 : len(loader.ours)]
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "ours": setting.batch * setting.steps / statistics.median(ours),
        "plain": setting.batch * setting.steps / statistics.median(theirs),
        "ratio": quartiles[1],
        "ratio_low": quartiles[0],
        "ratio_high": quartiles[2],
    }


def peak_memory(which: str, name: str, precision: str) -> float:
    """MiB that a process has at most, doing three steps of one of the two."""
    command = [sys.executable, __file__, "--memory_of", which, "--settings", name, "--precision", precision]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def do_three_steps(which: str, setting: Setting, precision: str) -> None:
    torch.manual_seed(0)
    if which == "plain":
        loop = PlainLoop(setting, precision)
        for batch, _ in zip(batches(setting), range(3), strict=False):
            loop(batch)
    elif which == "ours":
        with tempfile.TemporaryDirectory() as folder:
            trainer(folder, precision).fit(our_model(setting), TakingTurns(batches(setting), None, 3))
    # Not ru_maxrss, which a child process begins with its parent's.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(int(line.split()[1]) / 1024)


def data_pipeline(seconds: float = 1.0) -> float:
    """Tokens per second of the batches alone, read from disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.npy"
        np.save(path, np.random.default_rng(0).integers(VOCAB, size=2_000_000, dtype=np.uint16))
        loader = TokenBatches(np.load(path, mmap_mode="r"), 20, 35)
        tokens, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            for batch in loader:
                tokens += batch.tokens.numel()
        return tokens / (time.perf_counter() - start)


def generation(repeats: int = 30) -> dict[str, float]:
    """Milliseconds of a step at token 100 and at token 1,000, window 64, measured in turns."""
    torch.manual_seed(0)
    attention = partial(Attention, window=64)
    input = partial(TokenEmbedding, embedding_size=200)
    model = LanguageModel(VOCAB, input, rnn=partial(LSTM, hidden_size=200), attention=attention).eval()
    token, caches = torch.zeros(1, dtype=torch.long), {}
    with torch.inference_mode():
        _, cache = model.prefill(token[None], torch.tensor([1]))
        for position in range(1, 1001):
            _, cache = model.decode_step(token, cache)
            if position in (100, 1000):
                caches[position] = cache
        times: dict[int, list[float]] = {position: [] for position in caches}
        for _ in range(repeats):
            for position, cache in caches.items():
                start = time.perf_counter()
                for _ in range(10):
                    model.decode_step(token, cache)
                times[position].append((time.perf_counter() - start) / 10)
    early, late = (statistics.median(times[position]) for position in (100, 1000))
    return {
        "early": early * 1e3,
        "late": late * 1e3,
        "ratio": statistics.median(b / a for a, b in zip(times[100], times[1000], strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=14, help="training steps of each, two of them to warm up")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=["200", "650"], help="models to train")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true", help="of both")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--memory_of", choices=["ours", "plain"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 5:
        parser.error("--steps must be at least 5: two warm up, the last is not timed, and quartiles need two")
    torch.set_num_threads(args.threads)
    if args.memory_of:
        do_three_steps(args.memory_of, SETTINGS[args.settings[0]], args.precision)
        return

    print(f"torch {torch.__version__}, {args.threads} threads, {args.precision}, vocabulary {VOCAB}\n")
    print("| sizes | LanguageModel, tokens/s | plain loop, tokens/s | ratio (quartiles) | peak MiB | plain peak MiB |")
    print("|---|---|---|---|---|---|")
    figures: dict[str, object] = {}
    slowest = float("inf")
    for name in args.settings:
        row = training(SETTINGS[name], args.steps, args.precision)
        row["peak"], row["plain_peak"] = (peak_memory(which, name, args.precision) for which in ("ours", "plain"))
        spread = f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"
        ours, plain, peak, plain_peak = (f"{row[key]:,.0f}" for key in ("ours", "plain", "peak", "plain_peak"))
        cells = [name, ours, plain, spread, peak, plain_peak]
        print("| " + " | ".join(map(str, cells)) + " |")
        figures[name] = row
        slowest = min(slowest, row["ours"])
    figures["data"] = data_pipeline()
    figures["generation"] = steps = generation()
    fastest = max(figures[name]["ours"] for name in args.settings)  # type: ignore[index]
    times = figures["data"] / fastest  # type: ignore[operator]
    print(f"\ndata pipeline alone: {figures['data']:,.0f} tokens/s, {times:,.0f} x the fastest training")
    milliseconds = f"{steps['early']:.2f} ms at token 100, {steps['late']:.2f} ms at token 1,000"
    print(f"generation: {milliseconds}, ratio {steps['ratio']:.2f}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    import logging

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
