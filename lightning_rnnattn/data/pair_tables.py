"""Pairs in two columns of a table."""

from typing import Any

from lightning_rnnattn.data.base_pairs import BasePairDataModule, Corpora
from lightning_rnnattn.data.examples import ExampleDataModule, Split
from lightning_rnnattn.data.sides import ColumnCorpus
from lightning_rnnattn.data.table_files import TextLines
from lightning_rnnattn.data.table_source import TableSource
from lightning_rnnattn.data.tables import Table


class PairTableDataModule(BasePairDataModule):
    """Translation and the like: two columns of TSV, CSV or JSONL files (plain or gzip), or of a data set of the HF hub.

    Args:
        train_files: paths and glob patterns of ``.tsv``, ``.csv`` or ``.jsonl`` files, each with ``.gz`` or without;
            then ``dataset`` is not used, for validation and test neither.
        val_files: the same for validation; then ``val_fraction`` is not used.
        test_files: the same for the test; then ``test_split`` is not used.
        predict_files: the same to predict the targets of, in order; plain lines where the name ends otherwise.
        dataset: where there are no ``train_files``: a data set on the hub, or a local folder with one.
        dataset_config: its configuration, where it has several.
        train_split: its split for training; slices such as ``train[:10%]`` are fine.
        val_split: its split for validation, where there are neither files nor a fraction for it; null for none.
        test_split: its split for the test, likewise.
        source_column: the column with the source; ``translation.de`` is the field ``de`` of a column of objects.
        target_column: the column with the target.
        options: see `BasePairDataModule`.
    """

    ways = ExampleDataModule.ways | {"train": "data.train_files or data.dataset"}

    def __init__(
        self,
        train_files: str | list[str] | None = None,
        val_files: str | list[str] | None = None,
        test_files: str | list[str] | None = None,
        predict_files: str | list[str] | None = None,
        *,
        dataset: str | None = None,
        dataset_config: str | None = None,
        train_split: str = "train",
        val_split: str | None = "validation",
        test_split: str | None = "test",
        source_column: str = "source",
        target_column: str = "target",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._source = TableSource(
            {"train": train_files, "val": val_files, "test": test_files, "predict": predict_files},
            dataset,
            dataset_config,
            {"train": train_split, "val": None if self.val_fraction else val_split, "test": test_split},
        )
        self.source_column, self.target_column = source_column, target_column
        self._tables: dict[Split, Table | None] = {}

    def has(self, split: Split) -> bool:
        """See `ExampleDataModule.has`."""
        return self._table(split) is not None

    def corpora(self, split: Split) -> Corpora:
        """See `BasePairDataModule.corpora`."""
        table = self._table(split)
        assert table is not None, "that there is data has been made sure of"
        source, *target = [ColumnCorpus(table, column) for column in self._columns(split)]
        return source, target[0] if target else None

    def _columns(self, split: Split) -> list[str]:
        return [self.source_column] if split == "predict" else [self.source_column, self.target_column]

    def _table(self, split: Split) -> Table | None:
        if split not in self._tables:  # looking for it may mean asking the hub
            otherwise = TextLines if split == "predict" else None
            self._tables[split] = self._source.table(split, self._columns(split), otherwise)
        return self._tables[split]
