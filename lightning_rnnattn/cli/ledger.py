"""`lightning_rnnattn ledger`: a table of what runs have reached, from the files that they left."""

import csv
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.cli.resources import root
from lightning_rnnattn.cli.results import Result, read_records, results
from lightning_rnnattn.errors import UserError

HEADER = """\
# Results

Made by `lightning_rnnattn ledger` from the `run.json` of each run; no number is written by hand. Values are means over
seeds, with the standard deviation where there are several; `val_` is the best validation of the fit. The commit is that
of the fit, and of the evaluation where it is another; `+` says that files differed from it.

A published figure, of `published.csv`, stands beside runs of its recipe and its settings, and no others.
"""
COLUMNS = ("run", "evaluation", "metrics", "seeds", "parameters", "steps", "time", "hardware", "commit")

COMPARABLE = re.compile(
    r"--(trainer\.precision|data\.(eval_batch_size|folder|\w+_(files|source|target|references)))=.*"
)
"""Settings with which a run can still be held against what was published: its files, and how they are gone through."""


class Figure(NamedTuple):
    """A published figure.

    Attributes:
        recipe: the config whose runs it stands beside.
        metric: its name here.
        value: what was published.
        flags: the settings beside the recipe's with which it does, as in ``--model.rnn=Elman``.
        test_flags: those of the evaluation; a name alone, as in ``--model.cache``, is any value, and all below it.
        source: where it was published, and what for.
    """

    recipe: str
    metric: str
    value: float
    flags: tuple[str, ...]
    test_flags: tuple[str, ...]
    source: str

    def stands_beside(self, result: Result) -> bool:
        """Whether a result has its recipe, its metric, and its settings in fit and evaluation."""
        return (
            (self.recipe, self.metric) == (result.recipe, result.metric)
            and _agree(self.flags, result.flags)
            and _agree(self.test_flags, result.test_flags)
        )


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
    records = [record for folder in options.folders for record in read_records(Path(folder))]
    print(table([result for record in records for result in results(record)], published), end="")


def read_figures(path: Path) -> list[Figure]:
    """Published figures from CSV with the columns of `Figure`, flags with spaces between them.

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
            flags, test_flags = tuple(row["flags"].split()), tuple(row["test_flags"].split())
            figures.append(Figure(row["recipe"], row["metric"], float(row["value"]), flags, test_flags, row["source"]))
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            columns = ",".join(Figure._fields)
            raise UserError(f"{path}:{number}: not the columns {columns} with a number as the value") from error
    return figures


def table(found: Sequence[Result], published: Sequence[Figure]) -> str:
    """The ledger as Markdown: a line for each run, its seeds together, and for each way in which it was evaluated."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in found:
        groups.setdefault(result.row, []).append(result)
    in_order = sorted(groups.items(), key=lambda item: (*item[0][:3], str(item[0])))
    rows = [_row(group, published) for _, group in in_order]
    lines = [HEADER, *map(_line, (COLUMNS, ["---"] * len(COLUMNS), *rows))]
    sources = [
        f"- {_code(each.recipe, *each.flags, *each.test_flags)}, {each.metric} {each.value:.4g}: {each.source}"
        for each in published
        if any(each.stands_beside(result) for result in found)
    ]
    if sources:
        lines += ["\n## Sources\n", *sources]
    return "\n".join(lines) + "\n"


def _row(group: Sequence[Result], published: Sequence[Figure]) -> list[str]:
    first, run = group[0], group[0].record
    metrics: dict[str, dict[int, Result]] = {}
    for result in group:
        metrics.setdefault(result.metric, {})[id(result.record)] = result  # a run's last evaluation is the one
    seconds = {id(result.record): result.record["seconds"] for result in group}
    commits = [run["commit"], *(result.commit for result in group)]
    return [
        _code(first.recipe, *first.flags),
        _code(*first.test_flags),
        "<br>".join(_measured(list(of_runs.values()), _seeds(group), published) for of_runs in metrics.values()),
        _seeds(group),
        f"{run['parameters']:,}",
        f"{run['steps']:,}",
        f"{statistics.fmean(seconds.values()) / 60:.3g} min",
        run["hardware"],
        ", ".join(dict.fromkeys(map(_short, commits))),
    ]


def _measured(measured: Sequence[Result], seeds: str, published: Sequence[Figure]) -> str:
    """A metric of some runs, beside the figures that were published; and their seeds, where there are others."""
    values = [result.value for result in measured]
    value = statistics.fmean(values)
    notes = [] if _seeds(measured) == seeds else [f"seed {_seeds(measured)}"]
    for figure in published:
        if figure.stands_beside(measured[0]):
            notes.append(f"published {figure.value:.4g}, {value - figure.value:+.3g}")
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    beside = f" ({'; '.join(notes)})" if notes else ""
    return f"{measured[0].metric} {value:.4g}{spread}{beside}"


def _agree(flags: Sequence[str], settings: Sequence[str]) -> bool:
    """Whether settings are those that flags stand for: each, and no other that matters."""
    changes = [setting for setting in settings if not COMPARABLE.fullmatch(setting)]
    return all(any(_covers(flag, change) for flag in flags) for change in changes) and all(
        any(_covers(flag, change) for change in changes) for flag in flags
    )


def _covers(flag: str, setting: str) -> bool:
    """``--model.cache`` covers itself, ``--model.cache=NeuralCache`` and ``--model.cache.size=5``."""
    return setting == flag or setting.startswith((f"{flag}=", f"{flag}."))


def _seeds(group: Iterable[Result]) -> str:
    return ", ".join(sorted({str(result.record["seed"]) for result in group}))


def _short(commit: str | None) -> str:
    return "unknown" if commit is None else commit[:7] + "+" * commit.endswith("+")


def _code(*words: str) -> str:
    return " ".join(f"`{word}`" for word in words)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
