"""Every shipped YAML file with a mistake in it: one clear line and exit code 2, or it trains."""

import copy
import random
import shlex
import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from lightning_rnnattn.cli import main
from lightning_rnnattn.cli.resources import find_config, shipped

COUNT = 400
VALUES = (-1, 0, 10**12, 1e30, float("nan"), 0.5, 2.5, True, "", "x", "no/such/file", [], {}, [1, "a"], {"a": 1}, None)
CLASSES = ("LSTM", "Attention", "AdamW", "LanguageModel", "os.system", "torch.nn.Linear", "nowhere.Class", "DotScore")
TINY = {
    "trainer": {"fast_dev_run": True, "accelerator": "cpu", "devices": 1, "strategy": "auto", "num_nodes": 1,
                "precision": "32", "plugins": None, "enable_progress_bar": False, "enable_model_summary": False},
    "data": {"init_args": {"batch_size": 2}},
}  # fmt: skip


def resolved(settings, folder):
    """A configuration whose parts are written out, so that they have mistakes too."""
    for key in ("model", "data"):
        if isinstance(settings.get(key), str) and settings[key].endswith(".yaml"):
            settings[key] = yaml.safe_load((folder / settings[key]).read_text())
    if "class_path" in settings:
        kind = "data" if "DataModule" in settings["class_path"] or "Shakespeare" in settings["class_path"] else "model"
        settings = {kind: settings}
    return settings


def merged(base, over):
    """Both, where the second wins."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {key: merged(base.get(key), over[key]) if key in over else base[key] for key in {**base, **over}}
    return copy.deepcopy(over)


def whole(path: Path):
    """The configuration that a file's launch command makes, for data of the tests, small."""
    _, _, *rest = shlex.split(path.read_text(encoding="utf-8").splitlines()[1])[1:]
    settings: dict = {}
    for flag, value in pairwise(rest):
        if flag == "--config":
            found = find_config(value)
            settings = merged(settings, resolved(yaml.safe_load(found.read_text()), found.parent))
    return settings


def places(settings, path=()):
    """The path of every key in it."""
    items = settings.items() if isinstance(settings, dict) else enumerate(settings)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def mutated(settings, rng):
    """A copy with one mistake, and what it is."""
    settings = copy.deepcopy(settings)
    *parents, key = rng.choice(list(places(settings)))
    holder = settings
    for parent in parents:
        holder = holder[parent]
    how = rng.choice(["delete", "rename", "value", "value", "value", "class", "negate", "repeat"])
    old = holder[key]
    if how == "rename" and isinstance(holder, dict):
        name = str(key)
        i = rng.randrange(len(name))
        holder[name[:i] + rng.choice("xyz_") + name[i + 1 :]] = holder.pop(key)
    elif how == "class":
        holder[key] = (
            {"class_path": rng.choice(CLASSES), "init_args": {}} if rng.random() < 0.5 else rng.choice(CLASSES)
        )
    elif how == "negate" and isinstance(old, (int, float)):
        holder[key] = rng.choice([-old, old + 1, old * 1.5, old * 10**9, old * 10**5])
    elif how == "repeat":
        holder[key] = [old, old]
    elif how == "delete":
        holder.pop(key)
    else:
        holder[key] = rng.choice(VALUES)
    new = holder[key] if (isinstance(holder, dict) and key in holder) else "(gone)"
    return settings, f"{'.'.join(map(str, [*parents, key]))}: {how}: {old!r} -> {new!r}"


def files(folder: Path):
    (folder / "text.txt").write_text("It is a truth universally acknowledged\n" * 60)
    words = (
        f"{i}\t{word}\t_\t{label}" + 6 * "\t_" + "\n"
        for i, (word, label) in enumerate([("It", "PRON"), ("is", "AUX")], 1)
    )
    (folder / "tags.conllu").write_text(("".join(words) + "\n") * 5)


NAMES = [name for name, _ in shipped()]


def cases():
    rng = random.Random(0)
    for number in range(COUNT):
        yield NAMES[number % len(NAMES)], rng.getrandbits(32), number


def own_data(settings):
    """The same settings on files that are there."""
    data = settings.get("data")
    if isinstance(data, dict) and isinstance(data.get("init_args"), dict):
        known = data["init_args"]
        file = "tags.conllu" if str(data.get("class_path")).endswith("TaggedDataModule") else "text.txt"
        for key in ("train_files", "val_files"):
            if key in known or known.get("dataset"):
                known[key] = file
        known.pop("test_files", None)
        if known.get("dataset"):
            known["dataset"] = None
    return settings


@pytest.mark.parametrize(("name", "seed", "number"), [
    pytest.param(*case, marks=[] if i % 40 == 0 else [pytest.mark.slow], id=f"{i}-{case[0]}") for i, case in enumerate(cases())
])  # fmt: skip
def test_a_mistake_is_one_line(name, seed, number, workdir, capsys, monkeypatch):
    settings, what = mutated(own_data(whole(dict(shipped())[name])), random.Random(seed))
    print(what)
    files(workdir)
    (workdir / "run.yaml").write_text(f"# {what}\n" + yaml.safe_dump(settings, sort_keys=False))
    before = sorted(workdir.rglob("*"))
    options = [
        "--trainer.fast_dev_run=true",
        "--trainer.accelerator=cpu",
        "--trainer.devices=1",
        "--trainer.strategy=auto",
        "--trainer.num_nodes=1",
        "--trainer.precision=32",
        "--trainer.plugins=null",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main(["fit", "--config=run.yaml", *options])
    except SystemExit as stop:
        assert stop.code == 2, what
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith("error: "), what
        assert len(line) < 400, line
        with open("/tmp/rel/fuzz.log", "a") as log:
            log.write(f"{number} {name} {what}\n    {line}\n")
        assert sorted(workdir.rglob("*")) == before, what
    else:
        with open("/tmp/rel/fuzz.log", "a") as log:
            log.write(f"{number} {name} {what}\n    trains\n")
