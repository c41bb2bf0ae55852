"""Sentences with a label for each word."""

from collections.abc import Iterable
from typing import Any

import torch

from lightning_rnnattn.data.columns import CoNLLU, Sentence, SentenceFormat, WordLines
from lightning_rnnattn.data.examples import Split
from lightning_rnnattn.data.files import find_files
from lightning_rnnattn.data.label_sets import LabelIds, learnt_labels
from lightning_rnnattn.data.labelled import LabelledDataModule
from lightning_rnnattn.data.tag_batch import TaggedExamples
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers import CharTokenizer, Tokenizer, TokenizerSpec, WordTokenizer


class TaggedDataModule(LabelledDataModule):
    """Files with a word on each line and its label beside it: parts of speech, names, chunks.

    Every word is one element, whatever the vocabulary; one that it lacks is ``<unk>``. Labels are those of the training
    data, in their order.

    Args:
        train_files: paths and glob patterns, UTF-8, plain or gzip.
        val_files: the same for validation; then ``val_fraction`` is not used.
        test_files: the same for the test.
        predict_files: the same to predict; labels that are there are not read.
        format: how the files are written: `CoNLLU` or `Columns`.
        predict_format: how those to predict are written, where it differs: `WordLines` is a sentence on each line.
        tokenizer: how to make the vocabulary of words.
        character_tokenizer: how to make the vocabulary of their characters; null for none.
        lowercase: whether words are looked up in lower case; their characters stay as they are.
        options: see `ExampleDataModule`.
    """

    def __init__(
        self,
        train_files: str | list[str] | None = None,
        val_files: str | list[str] | None = None,
        test_files: str | list[str] | None = None,
        predict_files: str | list[str] | None = None,
        *,
        format: SentenceFormat = CoNLLU(),  # noqa: B008  (frozen)
        predict_format: SentenceFormat | None = None,
        tokenizer: TokenizerSpec = WordTokenizer(eos=False),  # noqa: B008
        character_tokenizer: TokenizerSpec | None = CharTokenizer(unk=True),  # noqa: B008
        lowercase: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(tokenizer=tokenizer, **options)
        self.files: dict[Split, str | list[str] | None] = {
            "train": train_files,
            "val": val_files,
            "test": test_files,
            "predict": predict_files,
        }
        self.format, self.predict_format = format, predict_format or format
        if isinstance(format, WordLines):
            raise UserError("data.format: plain lines have no labels: WordLines is for data.predict_format")
        self.character_spec = character_tokenizer
        self.lowercase = lowercase
        self._sentences: dict[Split, list[Sentence]] = {}
        self._character_tokenizer: Tokenizer | None = None

    def learn_text(self) -> Iterable[str]:
        """See `LabelledDataModule.learn_text`."""
        return (" ".join(self._forms(sentence.words)) + "\n" for sentence in self.sentences("train"))

    def learn_labels(self) -> tuple[str, ...]:
        """See `LabelledDataModule.learn_labels`."""
        sentences = self.sentences("train")
        return learnt_labels((label for each in sentences for label in each.labels or ()), sentences[0].source)

    @property
    def character_tokenizer(self) -> Tokenizer | None:
        """The vocabulary of characters, of the training data; None where they are not read."""
        if self._character_tokenizer is None and self.character_spec is not None:
            self.require_training("character_tokenizer")
            words = (word for sentence in self.sentences("train") for word in sentence.words)
            self._character_tokenizer = self.character_spec.train(words)
        return self._character_tokenizer

    @character_tokenizer.setter
    def character_tokenizer(self, tokenizer: Tokenizer) -> None:
        self._character_tokenizer = tokenizer
        self._examples.clear()

    @property
    def num_characters(self) -> int:
        """The number of characters in the vocabulary; 0 where they are not read."""
        return 0 if self.character_tokenizer is None else self.character_tokenizer.vocab_size

    def has(self, split: Split) -> bool:
        """See `ExampleDataModule.has`."""
        files = self.files[split]
        return files is not None and bool(find_files(files, f"data.{split}_files"))

    def encode(self, split: Split) -> TaggedExamples:
        """See `ExampleDataModule.encode`."""
        sentences = self.sentences(split)
        labels = None
        if split != "predict":
            known = LabelIds(self.labels)
            labels = [torch.tensor([*self._label_ids(sentence, known)], dtype=torch.int64) for sentence in sentences]
        characters = None
        if self.character_tokenizer is not None:
            encode = self.character_tokenizer.encode_batch
            characters = [[torch.tensor(ids) for ids in encode(sentence.words)] for sentence in sentences]
        words = [torch.tensor(self.tokenizer.ids(self._forms(s.words)), dtype=torch.int64) for s in sentences]
        return TaggedExamples(sentences, words, characters, labels, with_texts=split != "train")

    def sentences(self, split: Split) -> list[Sentence]:
        """The sentences of a split, read once and kept.

        Raises:
            UserError: naming file and line, where they cannot be read.
        """
        if split not in self._sentences:
            whole: Split = "train" if split == "val" and self.is_cut else split
            files = find_files(self.files[whole] or [], f"data.{whole}_files")
            how = self.predict_format if split == "predict" else self.format
            found = [sentence for path in files for sentence in how.sentences(path, labelled=split != "predict")]
            if not found:
                raise UserError(f"{files[0]}:1: there is no sentence")
            self._sentences[split] = [found[i] for i in self.part(split, len(found), str(files[0]))]
        return self._sentences[split]

    def _forms(self, words: Iterable[str]) -> list[str]:
        return [word.lower() if self.lowercase else word for word in words]

    @staticmethod
    def _label_ids(sentence: Sentence, known: LabelIds) -> Iterable[int]:
        pairs = zip(sentence.labels or (), sentence.numbers, strict=True)
        return (known(label, f"{sentence.source}:{number}") for label, number in pairs)
