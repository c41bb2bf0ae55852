"""Where the tables of a data module come from."""

from collections.abc import Mapping, Sequence

from lightning_rnnattn.data.examples import Split
from lightning_rnnattn.data.files import find_files
from lightning_rnnattn.data.table_files import TableFile, TextLines, table_of_files
from lightning_rnnattn.data.table_hub import HubTable
from lightning_rnnattn.data.tables import Table


class TableSource:
    """Files; or, where there are none to train on, a data set of the HF hub.

    Args:
        files: paths and glob patterns, by split; None where there are none.
        dataset: the data set, or None.
        config: its configuration, where it has several.
        splits: what it calls its splits; None where one is not used.
    """

    def __init__(
        self,
        files: Mapping[Split, str | list[str] | None],
        dataset: str | None,
        config: str | None,
        splits: Mapping[Split, str | None],
    ) -> None:
        self.files, self.splits = files, splits
        self.dataset, self.config = dataset if files["train"] is None else None, config

    def table(
        self, split: Split, columns: Sequence[str], otherwise: type[TableFile] | None = TextLines
    ) -> Table | None:
        """The rows of a split, or None.

        Args:
            split: the split.
            columns: the columns to read.
            otherwise: see `table_of_files`.

        Raises:
            UserError: if files are missing or not read, or the data set cannot be loaded.
        """
        files, name = self.files[split], self.splits.get(split)
        if files is not None:
            return table_of_files(find_files(files, f"data.{split}_files"), columns, otherwise)
        if self.dataset is not None and name is not None:
            return HubTable(self.dataset, self.config, name, columns)
        return None
