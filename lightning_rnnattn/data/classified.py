"""Texts with a label, or several, for each."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_rnnattn.data.class_batch import ClassExamples
from lightning_rnnattn.data.examples import ExampleDataModule, Split
from lightning_rnnattn.data.label_sets import LabelIds, learnt_labels
from lightning_rnnattn.data.labelled import LabelledDataModule
from lightning_rnnattn.data.table_source import TableSource
from lightning_rnnattn.data.tables import Row, Table, Value
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers import TokenizerSpec, WordTokenizer


class LabelledText(NamedTuple):
    """A text.

    Attributes:
        text: the text.
        label: its label, or a list of its labels; of what is to be predicted, an empty list.
        place: ``file:line``, as messages begin.
    """

    text: str
    label: Value
    place: str


class ClassifiedDataModule(LabelledDataModule):
    """Texts in files, or a data set of the HF hub, each with a label: sentiments, topics, languages.

    Files are read as their names say: ``.tsv`` and ``.csv`` with a header, ``.jsonl``, and all others as lines with a
    label, a space and the text; each plain or gzip. Labels are those of the training data, in their order. A text has
    several where the column has lists (JSON, the hub), or with ``separator``; then `MultiLabel` is the model's output.

    To read other sources, override :meth:`table`.

    Args:
        train_files: paths and glob patterns; then ``dataset`` is not used, for validation and test neither.
        val_files: the same for validation; then ``val_fraction`` is not used.
        test_files: the same for the test.
        predict_files: the same to predict: ``.tsv``, ``.csv`` and ``.jsonl`` need not have labels, and of all other
            files each line is a text.
        dataset: where there are no ``train_files``: a data set on the hub, or a local folder with one.
        dataset_config: its configuration, where it has several.
        train_split: its split for training; slices such as ``train[:10%]`` are fine.
        val_split: its split for validation, where there are neither files nor a fraction for it; null for none.
        test_split: its split for the test, likewise.
        text_column: the column with the text.
        label_column: the column with the label.
        separator: what stands between the labels of a text that may have several; null where it has one.
        tokenizer: how to make the vocabulary.
        options: see `ExampleDataModule`.

    Raises:
        UserError: if ``separator`` is empty.
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
        text_column: str = "text",
        label_column: str = "label",
        separator: str | None = None,
        tokenizer: TokenizerSpec = WordTokenizer(eos=False),  # noqa: B008  (frozen)
        **options: Any,
    ) -> None:
        super().__init__(tokenizer=tokenizer, **options)
        if separator == "":
            raise UserError("data.separator is empty: give what stands between labels, or null")
        self._source = TableSource(
            {"train": train_files, "val": val_files, "test": test_files, "predict": predict_files},
            dataset,
            dataset_config,
            {"train": train_split, "val": None if self.val_fraction else val_split, "test": test_split},
        )
        self.text_column, self.label_column, self.separator = text_column, label_column, separator
        self._tables: dict[Split, Table | None] = {}
        self._texts: dict[Split, list[LabelledText]] = {}

    def table(self, split: Split) -> Table | None:
        """The rows of a split, or None; override it to read another source.

        Raises:
            UserError: if files are missing, or the data set cannot be loaded.
        """
        columns = (self.text_column,) if split == "predict" else (self.label_column, self.text_column)
        return self._source.table(split, columns)

    def has(self, split: Split) -> bool:
        """See `ExampleDataModule.has`."""
        return self._table(split) is not None

    def texts(self, split: Split) -> list[LabelledText]:
        """The texts of a split, read once and kept.

        Raises:
            UserError: naming file and line, where they cannot be read.
        """
        if split not in self._texts:
            table = self._table("train" if split == "val" and self.is_cut else split)
            found = [] if table is None else [self._labelled(row, split) for row in table.rows()]
            if table is None or not found:
                raise UserError(f"{'data' if table is None else table.name}: there is no text for {split}")
            self._texts[split] = [found[i] for i in self.part(split, len(found), table.name)]
        return self._texts[split]

    def learn_text(self) -> Iterable[str]:
        """See `LabelledDataModule.learn_text`."""
        return (each.text for each in self.texts("train"))

    def learn_labels(self) -> tuple[str, ...]:
        """See `LabelledDataModule.learn_labels`."""
        texts = self.texts("train")
        found = (label for each in texts for label in ([each.label] if isinstance(each.label, str) else each.label))
        at_least = 1 if isinstance(texts[0].label, list) else 2
        return learnt_labels(found, texts[0].place.rpartition(":")[0], at_least)

    def encode(self, split: Split) -> ClassExamples:
        """See `ExampleDataModule.encode`."""
        texts = self.texts(split)
        ids = self.tokenizer.encode_batch([each.text for each in texts])
        return ClassExamples(
            [torch.tensor(row, dtype=torch.int64) for row in ids],
            None if split == "predict" else _label_ids(texts, LabelIds(self.labels)),
            None if split == "train" else [each.text for each in texts],
        )

    def _table(self, split: Split) -> Table | None:
        if split not in self._tables:
            self._tables[split] = self.table(split)
        return self._tables[split]

    def _labelled(self, row: Row, split: Split) -> LabelledText:
        label = [] if split == "predict" else row.fields[self.label_column]
        if self.separator is not None and isinstance(label, str):
            label = [each for part in label.split(self.separator) if (each := part.strip())]
        return LabelledText(row.text(self.text_column), label, row.place)


def _label_ids(texts: list[LabelledText], known: LabelIds) -> Tensor:
    """(N,) int64; or (N, L) bool, where texts have lists of labels."""
    several = isinstance(texts[0].label, list)
    ids = torch.zeros(len(texts), len(known.labels), dtype=torch.bool) if several else torch.zeros(len(texts)).long()
    for row, (_, label, place) in enumerate(texts):
        if isinstance(label, list) != several:
            kinds = ("a list of labels", "one label") if several else ("one label", "a list of labels")
            raise UserError(f"{place}: {kinds[1]}, where {texts[0].place} has {kinds[0]}: write all in the same way")
        if isinstance(label, list):
            ids[row, [known(each, place) for each in label]] = True
        else:
            ids[row] = known(label, place)
    return ids
