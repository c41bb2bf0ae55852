"""`lightning_rnnattn ledger`: a table of what runs have reached, from the files that they left."""

import csv
import json
import shlex
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.cli.resources import root
from lightning_rnnattn.errors import UserError

HEADER = """\
# Results

Made by `lightning_rnnattn ledger` from the `run.json` of each run; no number is written by hand. A value is the mean
over seeds, with the standard deviation where there are several. Published figures are those of `published.csv`.
"""
PLACES = ("_files", "_source", "_target", "_images", "folder", "dataset", "cache_dir")
"""Endings of settings that say where data are."""

COLUMNS = ("run", "metric", "value", "published", "difference", "seeds", "parameters", "steps", "time", "hardware")


class Figure(NamedTuple):
    """A published figure.

    Attributes:
        recipe: the config whose runs it stands beside.
        metric: its name here.
        value: what was published.
        test_flags: settings of the model in its evaluation, as in ``--model.cache``; those of the recipe where empty.
        source: where it was published, and what for.
    """

    recipe: str
    metric: str
    value: float
    test_flags: str
    source: str


@dataclass(frozen=True)
class Result:
    """One metric of one run.

    Attributes:
        recipe: the configs of the run, as `--config` names them, without ``recipes/``.
        flags: its other settings, those of data files left out.
        test_flags: the settings of the evaluation, likewise; none for the validations of the fit itself.
        metric: its name.
        value: what was measured.
        record: the run's ``run.json``.
    """

    recipe: str
    flags: tuple[str, ...]
    test_flags: tuple[str, ...]
    metric: str
    value: float
    record: dict[str, Any]

    @property
    def row(self) -> tuple[Any, ...]:
        """What runs with different seeds have in common."""
        run = self.record
        return self.recipe, self.flags, self.test_flags, self.metric, run["hardware"], run["commit"], run["steps"]


def make_parser() -> PlainParser:
    """Makes the parser of the options."""
    parser = PlainParser("ledger", "Print a Markdown table of what runs have reached, beside published figures.")
    parser.add_argument("folders", nargs="+", help="where the runs are: folders with a run.json, or above such")
    parser.add_argument("--published", help="CSV of published figures (default: the one that is shipped)")
    return parser


def run(command: str, args: list[str]) -> None:
    """Prints the table.

    Raises:
        UserError: for folders without runs, and files that do not say what they should.
    """
    options = make_parser().parse_args(args)
    published = read_figures(Path(options.published) if options.published else root() / "recipes" / "published.csv")
    records = [record for folder in options.folders for record in _records(Path(folder))]
    print(table([result for record in records for result in results(record)], published), end="")


def results(record: dict[str, Any]) -> Iterator[Result]:
    """The metrics of a run: of its best validation, and of each evaluation since."""
    recipe, flags = _settings(record["command"])
    for name, value in record["best"].items():
        yield Result(recipe, flags, (), name, value, record)
    for evaluation in record["evaluations"]:
        _, test_flags = _settings(evaluation["command"])
        for name, value in evaluation["metrics"].items():
            yield Result(recipe, flags, test_flags, name, value, record)


def read_figures(path: Path) -> list[Figure]:
    """Published figures from CSV with the columns of `Figure`.

    Raises:
        UserError: if the file cannot be read, or a line has something else.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot read the published figures: {error}") from error
    figures = []
    for number, row in enumerate(rows, start=2):
        try:
            value = float(row["value"])
            figures.append(Figure(row["recipe"], row["metric"], value, row["test_flags"], row["source"]))
        except (TypeError, KeyError, ValueError) as error:
            columns = ",".join(Figure._fields)
            raise UserError(f"{path}:{number}: not the columns {columns} with a number as the value") from error
    return figures


def table(found: Sequence[Result], published: Sequence[Figure]) -> str:
    """The ledger as Markdown; losses are listed only where one was published."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in found:
        if not result.metric.endswith("_loss") or _published(result, published) is not None:
            groups.setdefault(result.row, []).append(result)
    rows, sources, commits = [], dict[str, None](), dict[str, None]()
    for _, group in sorted(groups.items(), key=lambda item: (*item[0][:4], str(item[0]))):
        figure = _published(group[0], published)
        rows.append(_row(group, figure))
        if figure is not None:
            sources[f"`{figure.recipe}`, {figure.metric} {figure.value:.4g}: {figure.source}"] = None
        commits[group[0].record["commit"] or "unknown"] = None
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *map(_line, rows)]
    lines.append(f"\nMeasured at commit {', '.join(commits)}.")
    if sources:
        lines += ["\n## Sources\n", *(f"- {source}" for source in sources)]
    return "\n".join([HEADER, *lines]) + "\n"


def _row(group: list[Result], figure: Figure | None) -> list[str]:
    first, values = group[0], [result.value for result in group]
    value = statistics.fmean(values)
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    run = first.record
    what = " ".join([f"`{first.recipe}`", *(f"`{flag}`" for flag in (*first.flags, *first.test_flags))])
    return [
        what,
        first.metric,
        f"{value:.4g}{spread}",
        "" if figure is None else f"{figure.value:.4g}",
        "" if figure is None else f"{value - figure.value:+.3g}",
        ", ".join(sorted({str(result.record["seed"]) for result in group})),
        f"{run['parameters']:,}",
        f"{run['steps']:,}",
        f"{statistics.fmean(result.record['seconds'] for result in group) / 60:.3g} min",
        run["hardware"],
    ]


def _published(result: Result, published: Sequence[Figure]) -> Figure | None:
    """The figure for a result; that of another model, or evaluated otherwise, is none."""
    if any(flag.startswith("--model") for flag in result.flags):
        return None
    test_flags = {_top(flag) for flag in result.test_flags if flag.startswith("--model")}
    return next(
        (
            figure
            for figure in published
            if (figure.recipe, figure.metric) == (result.recipe, result.metric)
            and set(figure.test_flags.split()) == test_flags
        ),
        None,
    )


def _top(flag: str) -> str:
    """``--model.cache`` of ``--model.cache.size=5``."""
    return ".".join(flag.partition("=")[0].split(".")[:2])


def _settings(command: str) -> tuple[str, tuple[str, ...]]:
    """The configs in a command, and its other settings; where files are is nobody's business."""
    configs, flags = [], []
    for name, value in _options(shlex.split(command)[1:]):
        if name in ("--config", "-c"):
            configs.append(value.removeprefix("recipes/").removeprefix("configs/"))
        elif name.startswith(("--model", "--trainer.max_", "--trainer.limit_", "--trainer.precision")) or (
            name.startswith("--data.") and not name.endswith(PLACES)
        ):
            flags.append(f"{name}={value}")
    return " + ".join(configs) or command.split()[0], tuple(flags)


def _options(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Options and their values, which may stand apart, or be several."""
    name, values = "", list[str]()
    for word in [*words, "--"]:
        if not word.startswith("-"):
            values.append(word)
            continue
        if name:
            yield name, " ".join(values)
        name, _, value = word.partition("=")
        values = [value] if value else []


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    paths = sorted(folder.rglob("run.json"))
    if not paths:
        raise UserError(f"{folder}: no run.json in it: runs made by `lightning_rnnattn fit` have one")
    for path in paths:
        try:
            yield json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not the record of a run ({error})") from error


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
