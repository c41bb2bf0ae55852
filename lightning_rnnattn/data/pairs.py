"""Pairs in two files, line by line."""

from typing import Any

from lightning_rnnattn.data.base_pairs import BasePairDataModule, Corpora
from lightning_rnnattn.data.corpus import FileCorpus
from lightning_rnnattn.data.examples import Split
from lightning_rnnattn.data.files import find_files
from lightning_rnnattn.errors import UserError


class PairDataModule(BasePairDataModule):
    """Translation and the like: two UTF-8 files, plain or gzip, of which line n of one belongs to line n of the other.

    Several files are read one after the other as one. White space around a line is no part of it.

    Args:
        train_source: paths and glob patterns.
        train_target: the same for the targets.
        val_source: the same for validation; then ``val_fraction`` is not used.
        val_target: the same.
        test_source: the same for the test.
        test_target: the same.
        predict_source: lines to predict the targets of: every line, in order.
        options: see `BasePairDataModule`.
    """

    ways = {  # noqa: RUF012  (the base says that it is a ClassVar)
        "train": "data.train_source and data.train_target",
        "val": "data.val_source and data.val_target, or data.val_fraction",
        "test": "data.test_source and data.test_target",
        "predict": "data.predict_source",
    }

    def __init__(
        self,
        train_source: str | list[str] | None = None,
        train_target: str | list[str] | None = None,
        val_source: str | list[str] | None = None,
        val_target: str | list[str] | None = None,
        test_source: str | list[str] | None = None,
        test_target: str | list[str] | None = None,
        predict_source: str | list[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.sources = {"train": train_source, "val": val_source, "test": test_source, "predict": predict_source}
        self.targets = {"train": train_target, "val": val_target, "test": test_target}

    def has(self, split: Split) -> bool:
        """See `ExampleDataModule.has`."""
        given = {f"data.{split}_source": self.sources[split]}
        if split != "predict":
            given[f"data.{split}_target"] = self.targets[split]
        missing = [key for key, files in given.items() if files is None]
        if missing and len(missing) < len(given):
            raise UserError(f"{missing[0]} is missing: a pair needs both {' and '.join(given)}")
        return not missing and all(find_files(files or [], key) for key, files in given.items())

    def corpora(self, split: Split) -> Corpora:
        """See `BasePairDataModule.corpora`."""
        source = FileCorpus(find_files(self.sources[split] or [], f"data.{split}_source"), self.errors(split))
        if split == "predict":
            return source, None
        return source, FileCorpus(find_files(self.targets[split] or [], f"data.{split}_target"), self.errors(split))
