"""What each callback costs: the quickstart with it against the quickstart without, in turn, in one process.

    python recipes/benchmarks/callbacks.py [--steps 1470] [--validations 5] [--rounds 5] [--threads 2]

A round times a piece of training (the quickstart's model and batches, in Lightning's Trainer, with a validation of one
batch at its end) without any callback, and then with each of them on its own. A callback's own time is what its hooks
take, by the clock, within such a run; its share is that time scaled to a whole run, over the training time of one.
The difference of the two runs' times is printed beside it: it also has what hooks cause elsewhere, and the noise.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch

sys.path.insert(0, str(Path(__file__).parent))

from harness import environment, parser, save, table

from lightning_rnnattn import LSTM, Attention, LanguageModel, ScaledDotScore, TinyShakespeare, TokenEmbedding
from lightning_rnnattn.callbacks import (
    AttentionMap,
    BestCheckpoint,
    GradientNorm,
    LastCheckpoint,
    MetricsPlot,
    SampledText,
    Throughput,
)

TEXT = "But, soft! what light through yonder window breaks?\nIt is the"
CALLBACKS: dict[str, Callable[[], list[L.Callback]]] = {
    "none": list,
    "Throughput": lambda: [Throughput()],
    "GradientNorm": lambda: [GradientNorm()],
    "MetricsPlot": lambda: [MetricsPlot(["loss", "perplexity", "bpc"])],
    "SampledText": lambda: [SampledText(["ROMEO:", "To be"])],
    "AttentionMap": lambda: [AttentionMap([TEXT])],
    "BestCheckpoint": lambda: [BestCheckpoint()],
    "LastCheckpoint": lambda: [LastCheckpoint()],
}


class Clock:
    """Times the hooks of callbacks: those of every step, and those of a validation, apart."""

    def __init__(self, callbacks: list[L.Callback]) -> None:
        self.steps, self.validations = 0.0, 0.0
        for callback in callbacks:
            for name in ("on_train_batch_start", "on_train_batch_end", "on_before_optimizer_step"):
                self._time(callback, name, "steps")
            self._time(callback, "on_validation_end", "validations")

    def _time(self, callback: L.Callback, name: str, kind: str) -> None:
        hook = getattr(callback, name)

        def timed(*args: Any, **kwargs: Any) -> None:
            start = time.perf_counter()
            hook(*args, **kwargs)
            setattr(self, kind, getattr(self, kind) + time.perf_counter() - start)

        setattr(callback, name, timed)


def run(make: Callable[[], list[L.Callback]], data: TinyShakespeare, steps: int) -> tuple[float, Clock]:
    """Seconds of the training loop with one validation at its end, and of the callbacks' hooks."""
    L.seed_everything(1, verbose=False)
    attention = {"score": ScaledDotScore, "num_heads": 4, "window": 64}
    model = LanguageModel(
        data.vocab_size,
        partial(TokenEmbedding, embedding_size=64, dropout=0.1),
        rnn=partial(LSTM, hidden_size=256),
        attention=partial(Attention, **attention),
        dropout=0.1,
    )
    callbacks = make()
    clock, times = Clock(callbacks), [0.0, 0.0]
    ends = L.callbacks.LambdaCallback(
        on_train_start=lambda *_: times.__setitem__(0, time.perf_counter()),
        on_train_end=lambda *_: times.__setitem__(1, time.perf_counter()),
    )
    with tempfile.TemporaryDirectory() as folder:
        L.Trainer(
            accelerator="cpu",
            max_steps=steps,
            val_check_interval=steps,
            log_every_n_steps=10,
            limit_val_batches=1,
            gradient_clip_val=1.0,
            default_root_dir=folder,
            logger=L.loggers.CSVLogger(folder),
            callbacks=[ends, *callbacks],
            enable_checkpointing=any(isinstance(c, L.callbacks.ModelCheckpoint) for c in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        ).fit(model, data)
    return times[1] - times[0], clock


def main() -> None:
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--piece", type=int, default=60, help="steps of a timed piece")
    options.add_argument("--steps", type=int, default=1470, help="of the whole run")
    options.add_argument("--validations", type=int, default=5, help="of the whole run")
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    rounds, piece = (2, 10) if given.quick else (given.rounds, given.piece)
    data = TinyShakespeare(batch_size=32, seq_len=64)
    data.prepare_data()
    for make in CALLBACKS.values():
        run(make, data, 2)  # imports, fonts, caches
    results: dict[str, list[tuple[float, Clock]]] = {name: [] for name in CALLBACKS}
    for _ in range(rounds):
        for name, make in CALLBACKS.items():
            results[name].append(run(make, data, piece))
    plain = statistics.median(seconds for seconds, _ in results["none"])
    whole = plain / piece * given.steps
    rows, figures = [], {}
    for name, runs in results.items():
        if name == "none":
            continue
        step = statistics.median(clock.steps for _, clock in runs) / piece
        validation = statistics.median(clock.validations for _, clock in runs)
        share = (step * given.steps + validation * given.validations) / whole
        pairs = zip(runs, results["none"], strict=True)
        more = statistics.median(one / without - 1 for (one, _), (without, _) in pairs)
        figures[name] = {"step": step, "validation": validation, "share": share, "difference": more}
        rows.append([name, f"{1e6 * step:.0f}", f"{1e3 * validation:.0f}", f"{share:.2%}", f"{more:+.1%}"])
    print(f"a piece of {piece} steps and a validation: {plain:.2f} s without callbacks; the whole run {whole:.0f} s\n")
    print(table(["callback", "µs a step", "ms a validation", "share of a run", "of the piece, by difference"], rows))
    print(f"\n{save('callbacks', given.out, {'environment': environment('cpu'), 'callbacks': figures})}")


if __name__ == "__main__":
    main()
