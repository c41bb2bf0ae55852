"""CMUdict, the pronunciations of English words, which comes with the package."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from lightning_rnnattn.data.base_pairs import BasePairDataModule, Corpora
from lightning_rnnattn.data.corpus import Corpus, FileCorpus
from lightning_rnnattn.data.examples import Split
from lightning_rnnattn.data.files import find_files
from lightning_rnnattn.data.lines import joined, whole_lines
from lightning_rnnattn.data.sides import ListCorpus
from lightning_rnnattn.tokenizers import CharTokenizer, TokenizerSpec, WordTokenizer

VAL_WORDS = 2670
"""Words of the training file that are validated on, as many as in the literature."""

Entries = dict[str, tuple[str, ...]]
"""The pronunciations of each word."""


class CMUDict(BasePairDataModule):
    """Letters to phonemes, without stress: the g014b2b split of CMUdict, as in the literature.

    Training has 110,631 pronunciations of 104,167 words, each of them a pair; validation, 2,670 more words of the same
    file, drawn once and for all; the test, 12,000 words. There a word is one example, and every pronunciation of it is
    right; the loss is that of the first. The notices that go with the data are in ``data/samples/NOTICE`` (BSD).

    Args:
        predict_source: files with a word of yours on each line, in capitals or not.
        source_tokenizer: how to make the letters' tokenizer.
        target_tokenizer: how to make the phonemes'; null for one vocabulary with the letters.
        batch_size: see `ExampleDataModule`.
        max_tokens: see `ExampleDataModule`.
        eval_batch_size: see `ExampleDataModule`.
        seed: see `ExampleDataModule`.
        cache_dir: see `BasePairDataModule`.
    """

    ways = {**BasePairDataModule.ways, "predict": "data.predict_source"}  # noqa: RUF012

    def __init__(
        self,
        predict_source: str | list[str] | None = None,
        *,
        source_tokenizer: TokenizerSpec = CharTokenizer(),  # noqa: B008  (frozen)
        target_tokenizer: TokenizerSpec | None = WordTokenizer(),  # noqa: B008
        batch_size: int | None = 32,
        max_tokens: int | None = None,
        eval_batch_size: int | None = None,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(
            source_tokenizer=source_tokenizer,
            target_tokenizer=target_tokenizer,
            batch_size=batch_size,
            max_tokens=max_tokens,
            eval_batch_size=eval_batch_size,
            seed=seed,
            cache_dir=cache_dir,
        )
        self.predict_source = predict_source

    def has(self, split: Split) -> bool:
        """All but words to predict."""
        if split != "predict":
            return True
        return self.predict_source is not None and bool(find_files(self.predict_source, "data.predict_source"))

    def corpora(self, split: Split) -> Corpora:
        """The words and their pronunciations: all of them in training, else the first."""
        if split == "predict":
            paths = find_files(self.predict_source or [], "data.predict_source")
            return ListCorpus([line.text.upper() for line in joined(FileCorpus(paths).lines())], str(paths[0])), None
        entries = _split(split)
        shown = len if split == "train" else (lambda _: 1)
        pairs = [(word, said) for word, ways in entries.items() for said in ways[: shown(ways)]]
        name = f"CMUDict[{split}]"
        return ListCorpus([word for word, _ in pairs], name), ListCorpus([said for _, said in pairs], name)

    def references(self, split: Split, targets: Corpus) -> Iterable[tuple[str, ...]]:
        """All pronunciations of each word."""
        return _split(split).values()


@cache
def _split(split: Split) -> Entries:
    if split == "test":
        return _entries("g014b2b.ref.gz")
    entries = _entries("g014b2b.train.gz")
    words = list(entries)
    val = {words[i] for i in np.random.RandomState(0).permutation(len(words))[:VAL_WORDS]}
    return {word: entries[word] for word in words if (word in val) == (split == "val")}


def _entries(name: str) -> Entries:
    """Lines of a word and, after tabs, pronunciations; a word may have several lines."""
    found: dict[str, list[str]] = {}
    for line in whole_lines(Path(str(files("lightning_rnnattn.data") / "samples" / name))):
        word, *said = line.text.split("\t")
        found.setdefault(word, []).extend(said)
    return {word: tuple(ways) for word, ways in found.items()}
