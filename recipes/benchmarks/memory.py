"""Peak memory of training a language model whose attention reaches far, against the same network without attention.

    python recipes/benchmarks/memory.py [--context 512]

Each model trains for three steps in a process of its own; the peak is that process's.
"""

import argparse
import subprocess
import sys
from functools import partial

import torch
from harness import environment, peak_resident, table

from lightning_rnnattn import LSTM, AdditiveScore, Attention, LanguageModel, ScaledDotScore

BATCH, HIDDEN, VOCABULARY, STEPS = 16, 512, 65, 3
SCORES = {"none": None, "scaled dot": ScaledDotScore, "additive": AdditiveScore}


def train(name: str, context: int) -> float:
    """Three steps of back-propagation through ``context`` tokens, and the peak of this process in MiB."""
    torch.manual_seed(0)
    score = SCORES[name]
    attention = None if score is None else partial(Attention, score=score, window=context)
    model = LanguageModel(VOCABULARY, rnn=partial(LSTM, hidden_size=HIDDEN), attention=attention)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    past = None
    for _ in range(STEPS):
        tokens, targets = torch.randint(VOCABULARY, (2, BATCH, context))
        features, past = model.features(tokens, past)
        past = past.map(torch.Tensor.detach)
        loss = model.loss(features, targets, torch.ones_like(targets, dtype=torch.bool)) / targets.numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return peak_resident() / 2**20


def main() -> None:
    """Prints a row for each kind of attention."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--context", type=int, default=512, help="steps of a batch, and the attention's window")
    parser.add_argument("--only", choices=SCORES, help=argparse.SUPPRESS)  # in the processes that are measured
    options = parser.parse_args()
    if options.only is not None:
        print(train(options.only, options.context))
        return
    print(environment("cpu"), end="\n\n")
    command = [sys.executable, __file__, "--context", str(options.context), "--only"]
    peaks = {
        name: float(subprocess.run([*command, name], check=True, capture_output=True, text=True).stdout)
        for name in SCORES
    }
    rows = [(name, f"{peak:,.0f}", f"{peak - peaks['none']:+,.0f}") for name, peak in peaks.items()]
    print(table(("attention", "peak MiB", "beyond the plain network"), rows))


if __name__ == "__main__":
    main()
