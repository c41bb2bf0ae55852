"""Tables on the HF hub."""

from collections.abc import Iterator, Sequence
from typing import Any

from lightning_rnnattn.data.corpus import digest
from lightning_rnnattn.data.tables import Row, Table, listed, plain_value
from lightning_rnnattn.errors import UserError


class HubTable(Table):
    """Some columns of a data set that ``datasets.load_dataset`` finds.

    A column ``a.b`` is the field ``b`` of the column ``a``, as translations have it. Class labels are read as their
    names.

    Args:
        dataset: its name on the hub, or a local folder.
        config: its configuration, for data sets that have several.
        split: its split, slices such as ``train[:10%]`` included.
        columns: the columns to read.

    Raises:
        UserError: if it cannot be loaded, or lacks a column.
    """

    def __init__(self, dataset: str, config: str | None, split: str, columns: Sequence[str]) -> None:
        import datasets  # slow to import, and few need it

        self.name, self.columns = f"{dataset}[{split}]", tuple(columns)
        try:
            rows = datasets.load_dataset(dataset, config, split=split)
        except Exception as error:  # not found, no network, no such configuration or split: it has a class for each
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"data.dataset: cannot load {self.name}: {reason} (see also data.dataset_config and the splits)"
            ) from error
        if not set(self.columns) <= set(rows.column_names):
            rows = rows.flatten()
        if missing := [name for name in self.columns if name not in rows.column_names]:
            raise UserError(f"{self.name}: there is no column {missing[0]!r}; it has {listed(rows.column_names)}")
        self._rows: Any = rows.select_columns(list(self.columns))

    def fingerprint(self) -> str:
        """The fingerprint by which ``datasets`` itself caches: of the files it read and what was done to them."""
        return digest("hub", self.columns, self._rows._fingerprint)

    def rows(self) -> Iterator[Row]:
        """The rows."""
        names = {column: _class_names(self._rows.features[column]) for column in self.columns}
        for number, record in enumerate(self._rows, start=1):
            place = f"{self.name}:{number}"
            fields = {
                column: plain_value(_named(record[column], names[column], place), column, place)
                for column in self.columns
            }
            yield Row(fields, self.name, number)


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel, or of a list of them."""
    names: list[str] | None = getattr(getattr(feature, "feature", feature), "names", None)
    return names


def _named(value: Any, names: list[str] | None, place: str) -> Any:
    if names is None or value is None:
        return value
    if isinstance(value, list):
        return [_named(item, names, place) for item in value]
    if not 0 <= value < len(names):  # -1 is what the hub's unlabelled tests have
        raise UserError(f"{place}: the label {value} has no name: the split has no labels (use another split)")
    return names[value]
