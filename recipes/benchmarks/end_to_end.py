"""From the command line: `lightning_rnnattn fit` beside `python -m joeynmt train`, where JoeyNMT is installed.

    python recipes/benchmarks/end_to_end.py [--data FOLDER] [--quick] [--threads N] [--device cuda]

FOLDER has Multi30k's train.de, train.en, val.de and val.en; without it, both read random words. Sizes: embeddings of
256, a bidirectional LSTM and one with input feeding and additive attention, 64 pairs a batch, the 10,000 most frequent
words on either side, Adam. The commands take turns, and each says itself how many target tokens a second it trains on,
with what it needs to read, batch and log them; the median is over all that they say but the first of each run, which
warms up. JoeyNMT takes its batches as they come; ours have pairs of like lengths.
"""

import csv
import os
import re
import statistics
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from harness import environment, parser, save, table
from peers import JOEYNMT

BATCH, VOCAB, EMBEDDING, EVERY = 64, 10_000, 256, 5
SIDES = (("source", "de"), ("target", "en"))


def ours(hidden: int, steps: int, data: Path, out: Path, device: str) -> list[float]:
    """Tokens per second of our command."""
    attention = _class("Attention", score="AdditiveScore", num_heads=1)
    files = {f"{split}_{side}": str(data / f"{split}.{end}") for split in ("train", "val") for side, end in SIDES}
    config = {
        "model": _class(
            "Seq2Seq",
            embedding_size=EMBEDDING,
            encoder=_class("LSTM", hidden_size=hidden // 2, bidirectional=True),
            decoder=_class("InputFeedingDecoder", rnn=_class("LSTM", hidden_size=hidden), attention=attention),
            optimizer=_class("Adam", lr=0.001),
        ),
        "data": _class(
            "PairDataModule",
            **files,
            **{f"{side}_tokenizer": _class("WordTokenizer", max_size=VOCAB) for side, _ in SIDES},
            batch_size=BATCH,
        ),
        "trainer": {
            "accelerator": device,
            "max_steps": steps,
            "limit_val_batches": 0,
            "log_every_n_steps": EVERY,
            "logger": _class("CSVLogger", save_dir=str(out), name="ours"),
            "callbacks": [_class("Throughput")],
        },
    }
    _run("lightning_rnnattn", "fit", "--config", _written(config, out / "ours.yaml"))
    (metrics,) = out.rglob("metrics.csv")
    with metrics.open() as file:
        return [float(row["tokens_per_second"]) for row in csv.DictReader(file) if row["tokens_per_second"]]


def joeynmt(hidden: int, steps: int, data: Path, out: Path, device: str) -> list[float]:
    """Tokens per second of JoeyNMT's command."""
    side = {"level": "word", "voc_limit": VOCAB, "voc_min_freq": 1, "max_length": -1}
    both = {"type": "recurrent", "rnn_type": "lstm", "num_layers": 1, "embeddings": {"embedding_dim": EMBEDDING}}
    config = {
        "name": "benchmark",
        "model_dir": str(out / "joeynmt"),
        "use_cuda": device == "cuda",
        "data": {
            "dataset_type": "plain",
            "train": str(data / "train"),
            "dev": str(data / "val"),
            "src": {"lang": "de", **side},
            "trg": {"lang": "en", **side},
        },
        "model": {
            "encoder": {**both, "hidden_size": hidden // 2, "bidirectional": True},
            "decoder": {**both, "hidden_size": hidden, "attention": "bahdanau", "input_feeding": True},
        },
        "training": {
            "optimizer": "adam",
            "learning_rate": 0.001,
            "scheduling": "exponential",  # it needs one; this acts once an epoch
            "batch_size": BATCH,
            "normalization": "tokens",
            "updates": steps,
            "logging_freq": EVERY,
            "validation_freq": 1000 * EVERY,
        },
        "testing": {},
    }
    _run("joeynmt", "train", "--skip-test", _written(config, out / "joeynmt.yaml"))
    return [float(x) for x in re.findall(r"Tokens per Sec: +([\d.]+)", (out / "joeynmt" / "train.log").read_text())]


def random_text(folder: Path) -> Path:
    """Files of random words, as long as captions are, where the words' frequencies fall as in language."""
    for name, pairs in (("train", 2000), ("val", 10)):
        for _, end in SIDES:
            lengths = (torch.randn(pairs) * 4 + 12).round().long().clamp(4, 40)
            ids = (torch.rand(int(lengths.sum())) * 9).exp().long().tolist()
            words = iter(f"word{i}" for i in ids)
            lines = [" ".join(next(words) for _ in range(length)) for length in lengths.tolist()]
            (folder / f"{name}.{end}").write_text("\n".join(lines) + "\n")
    return folder


def main() -> None:
    """Runs everything."""
    options = arguments()
    torch.manual_seed(0)
    commands = {"ours": ours, **({"JoeyNMT": joeynmt} if JOEYNMT else {})}
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        data = options.data or random_text(Path(folder))
        for hidden in (32,) if options.quick else (128, 512):
            said: dict[str, list[float]] = {name: [] for name in commands}
            turns, steps = (1, 2 * EVERY) if options.quick else (2, 6 * EVERY)
            for turn in range(turns):
                for name, run in commands.items():
                    out = Path(folder) / f"{name}-{hidden}-{turn}"
                    out.mkdir()
                    said[name] += run(hidden, steps, data, out, options.device)[1:]
            row = {"hidden": hidden, **{name: statistics.median(rates) for name, rates in said.items()}}
            rows.append({**row, "ours / JoeyNMT": row["ours"] / row["JoeyNMT"]} if JOEYNMT else row)
    numbers = [[f"{x:,.2f}" if isinstance(x, float) else str(x) for x in row.values()] for row in rows]
    print(f"Target tokens a second, as each command says\n\n{table(list(rows[0]), numbers)}\n")
    print(f"wrote {save('end_to_end', options.out, {'environment': environment(options.device), 'rows': rows})}")


def arguments() -> Namespace:
    """The options, and as many threads for the commands as they say."""
    made = parser(__doc__.split("\n", 1)[0])
    made.add_argument("--data", type=Path, help="folder with train.de, train.en, val.de and val.en")
    options = made.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    return options


def _class(class_path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": init_args}


def _written(config: dict[str, Any], path: Path) -> str:
    path.write_text(yaml.safe_dump(config))
    return str(path)


def _run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arguments[0]} ended with status {done.returncode}\n{done.stderr}")


if __name__ == "__main__":
    main()
