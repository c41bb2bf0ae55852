"""Every shipped YAML file with a mistake in it: one clear line and exit code 2, or it trains."""

import copy
import random
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.resources import find_config, shipped

COUNT, DEFAULT, COMMANDS = 400, 8, 10  # mistakes; those of them in the default run, and as real commands
# What `--config` takes; sweeps are W&B's.
SHIPPED = {name: path for name, path in shipped() if not name.startswith("sweeps/")}
FILES = {
    "TextDataModule": {"train_files": "text.txt", "val_files": "text.txt"},
    "TaggedDataModule": {"train_files": "tags.conllu", "val_files": "tags.conllu"},
    "ClassifiedDataModule": {"train_files": "labels.txt", "val_files": "labels.txt"},
    "PairDataModule": dict.fromkeys(("train_source", "train_target", "val_source", "val_target"), "text.txt"),
    "MNIST": {"folder": "mnist", "val_fraction": 0.5},
}
VALUES = (-1, 0, 10**12, 1e30, float("nan"), 0.5, 2.5, True, "", "x", "no/such/file", [], {}, [1, "a"], {"a": 1}, None)
CLASSES = ("LSTM", "Attention", "AdamW", "LanguageModel", "os.system", "torch.nn.Linear", "nowhere.Class", "DotScore")
ONE_PROCESS = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.devices=1",
               "--trainer.strategy=auto", "--trainer.num_nodes=1", "--trainer.precision=32", "--trainer.plugins=null",
               "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]  # fmt: skip


def launched(name: str) -> dict[str, Any]:
    """All that the launch command of a file says, its parts written out, with data that are there."""
    line = SHIPPED[name].read_text(encoding="utf-8").splitlines()[1]
    settings: dict[str, Any] = {}
    for flag, value in pairwise(shlex.split(line)):
        if flag == "--config":
            settings = merged(settings, written_out(find_config(value)))
    data = settings["data"]
    data["init_args"] = {**data.get("init_args", {}), **FILES.get(data["class_path"], {})}
    return settings


def written_out(path: Path) -> dict[str, Any]:
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "class_path" in settings:
        return {"data" if path.parent.name == "data" else "model": settings}
    for key in ("model", "data"):
        if isinstance(settings.get(key), str):
            settings[key] = yaml.safe_load((path.parent / settings[key]).read_text(encoding="utf-8"))
    return {key.rstrip("+"): value for key, value in settings.items()}


def merged(base: Any, over: Any) -> Any:
    """Both, where the second wins."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {key: merged(base.get(key), over[key]) if key in over else base[key] for key in {**base, **over}}
    return copy.deepcopy(over)


def places(settings: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key."""
    for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def with_a_mistake(settings: dict[str, Any], rng: random.Random) -> str:
    """Makes one somewhere in the settings, and says which."""
    *parents, key = rng.choice(list(places(settings)))
    holder: Any = settings
    for parent in parents:
        holder = holder[parent]
    old = holder[key]
    how = rng.choice(["delete", "rename", "class", "scale", "repeat", "value", "value", "value"])
    if how == "delete":
        holder.pop(key)
    elif how == "rename" and isinstance(holder, dict):
        i = rng.randrange(len(key))
        holder[key[:i] + rng.choice("xyz_") + key[i + 1 :]] = holder.pop(key)
    elif how == "class":
        name = rng.choice(CLASSES)
        holder[key] = rng.choice([name, {"class_path": name, "init_args": {}}])
    elif how == "scale" and isinstance(old, (int, float)):
        holder[key] = rng.choice([-old, old + 1, old * 1.5, old * 10**5, old * 10**9])
    elif how == "repeat":
        holder[key] = [old, old]
    else:
        holder[key] = rng.choice(VALUES)
    return f"{how} at {'.'.join(map(str, [*parents, key]))}"


def write_a_mistake(number: int) -> str:
    """Writes ``run.yaml``, and says what is wrong in it."""
    settings = launched(sorted(SHIPPED)[number % len(SHIPPED)])
    what = with_a_mistake(settings, random.Random(number))
    Path("run.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return what


@pytest.mark.slow
@pytest.mark.parametrize("number", range(0, COUNT, COUNT // COMMANDS))
def test_a_mistake_in_a_real_command(number, workdir, samples):
    what = write_a_mistake(number)
    before = sorted(workdir.rglob("*"))
    line = [sys.executable, "-m", "lightning_rnnattn", "fit", "--config=run.yaml", *ONE_PROCESS]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=False)
    print(what, done.stderr)
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert sorted(workdir.rglob("*")) == before, "a failed start left files"


@pytest.mark.parametrize(
    "number",
    [pytest.param(i, marks=() if i % (COUNT // DEFAULT) == 7 else pytest.mark.slow) for i in range(COUNT)],
)
def test_a_mistake_is_one_line(number, workdir, samples, capsys):
    what = write_a_mistake(number)
    before = sorted(workdir.rglob("*"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main(["fit", "--config=run.yaml", *ONE_PROCESS])
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        print(what)
        raise
    else:
        return
    *_, line = capsys.readouterr().err.splitlines()
    print(what, line)
    assert code == 2
    assert line.startswith("error: ")
    assert len(line) < 400
    assert sorted(workdir.rglob("*")) == before, "a failed start left files"
