"""What runs have reached: the numbers in their ``run.json``, and the settings that these are of."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_rnnattn.errors import UserError

CONFIG = ("--config", "-c")
SILENT = re.compile(
    r"--(seed_everything|ckpt_path|quiet|import|data\.cache_dir"
    r"|trainer\.(logger|enable_|accelerator|devices|num_nodes|default_root_dir|log_every_n_steps)).*"
)
"""Options that say how or where something is run, not what; seed and hardware are in the record."""

KEYS = ("command", "continues", "commit", "seed", "hardware", "parameters", "steps", "seconds", "best", "evaluations")
"""What a record must have."""

_FOLDERS = re.compile(r"[^\s\[,'\"]*/(?=[^\s\],'\"])")


@dataclass(frozen=True)
class Result:
    """One metric of one run.

    Attributes:
        recipe: the configs of the run, as `--config` names them, without ``recipes/``.
        flags: its other settings, as ``--name=value``; files without their folders.
        test_flags: the settings of the evaluation, likewise; none for the validations of the fit itself.
        metric: its name.
        value: what was measured.
        commit: what it was measured with.
        record: the run's ``run.json``.
    """

    recipe: str
    flags: tuple[str, ...]
    test_flags: tuple[str, ...]
    metric: str
    value: float
    commit: str | None
    record: dict[str, Any]

    @property
    def row(self) -> tuple[Any, ...]:
        """What runs with different seeds have in common."""
        run = self.record
        return self.recipe, self.flags, self.test_flags, run["hardware"], run["commit"], run["steps"]


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of the runs in a folder, or below it.

    Raises:
        UserError: if there is none, or one cannot be read.
    """
    paths = sorted(folder.rglob("run.json"))
    if not paths:
        raise UserError(f"{folder}: no run.json in it: runs made by `lightning_rnnattn fit` have one")
    for path in paths:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not the record of a run ({error})") from error
        if lacking := [key for key in KEYS if not isinstance(record, dict) or key not in record]:
            raise UserError(f"{path}: not the record of a run (it has no {lacking[0]})")
        yield record


def results(record: dict[str, Any]) -> Iterator[Result]:
    """The metrics of a run: of its best validation, and of each evaluation since."""
    recipe, flags = _settings(*record["continues"], record["command"])
    for name, value in record["best"].items():
        yield Result(recipe, flags, (), name, value, record["commit"], record)
    for evaluation in record["evaluations"]:
        _, test_flags = _settings(evaluation["command"])
        if evaluation["checkpoint"] != "best.ckpt":
            test_flags = (f"--ckpt_path={evaluation['checkpoint']}", *test_flags)
        for name, value in evaluation["metrics"].items():
            yield Result(recipe, flags, test_flags, name, value, evaluation["commit"], record)


def _settings(*commands: str) -> tuple[str, tuple[str, ...]]:
    """The configs in a run's commands, and its other settings; in which folders files are is nobody's business."""
    settings: list[tuple[str, str]] = []
    for command in commands:
        given = list(_options(shlex.split(command)[1:]))
        changed = {name for name, _ in given}
        settings = [(name, value) for name, value in settings if name not in changed] + given
    configs = [re.sub(r"^(.*/)?(recipes|configs)/", "", value) for name, value in settings if name in CONFIG]
    flags = [
        f"{name}={_FOLDERS.sub('', value)}" if value else name
        for name, value in settings
        if name not in CONFIG and not SILENT.fullmatch(name)
    ]
    return " + ".join(configs) or commands[0].split()[0], tuple(flags)


def _options(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Options and their values, which may stand apart, or be several."""
    name, values = "", list[str]()
    for word in [*words, "--"]:
        if not re.match("--|-[a-z]", word):  # a number may be negative
            values.append(word)
            continue
        if name:
            yield name, " ".join(values)
        name, _, value = word.partition("=")
        values = [value] if value else []
