"""Text for language models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lightning_rnnattn.data.base import SharedDataModule
from lightning_rnnattn.data.cache import default_cache_dir
from lightning_rnnattn.data.corpus import Corpus, FileCorpus, HubCorpus, Part
from lightning_rnnattn.data.documents import Document, DocumentBatches
from lightning_rnnattn.data.files import find_files
from lightning_rnnattn.data.streams import TokenArray, token_array, train_tokenizer
from lightning_rnnattn.data.tokens import TokenBatches
from lightning_rnnattn.errors import UserError, require_at_least_one, require_share
from lightning_rnnattn.tokenizers import CharTokenizer, Tokenizer, TokenizerSpec

Split = Literal["train", "val", "test"]


class TextDataModule(SharedDataModule):
    """Text files, or a data set of the HF hub, as contiguous streams of tokens.

    Files are UTF-8, plain or gzip; several are read one after the other as one stream. Validation and test data are
    files of their own, or are cut from the end of the training text: a line belongs to the part in which its first
    character lies, the order is train, validation, test, and the tokenizer sees the training part only.

    Text is encoded once, to a file in ``cache_dir`` that is mapped into memory, and is found again by its content.

    To read other sources, override :meth:`corpus`.

    Args:
        train_files: paths and glob patterns (``data/*.txt.gz``), read in their order, the matches of a pattern sorted;
            then ``dataset`` is not used, for validation and test neither.
        val_files: the same for validation; then ``val_fraction`` is not used.
        test_files: the same for the test; then ``test_fraction`` is not used.
        predict_files: documents to score; each file is one.
        val_fraction: the share of the training text's characters to validate on.
        test_fraction: the share to test on, after that.
        dataset: where there are no ``train_files``: a data set on the hub, or a local folder with one.
        dataset_config: its configuration, where it has several.
        text_column: its column with the text; each row is a line or several.
        train_split: its split for training; slices such as ``train[:10%]`` are fine.
        val_split: its split for validation, where there are neither files nor a fraction for it; null for none.
        test_split: its split for the test, likewise.
        tokenizer: how to make the tokenizer.
        batch_size: how many streams each process reads side by side.
        seq_len: how many tokens of each stream are in a batch.
        seq_len_std: how much that varies in training: see `lightning_rnnattn.data.tokens.chunk_lengths`. The callback
            `LengthScaledLR` makes longer batches count for more.
        eval_batch_size: streams, or documents, in validation, test and prediction; null is ``batch_size``.
        cache_dir: where encoded text is kept; null is ``$LIGHTNING_RNNATTN_CACHE`` or ``~/.cache/lightning_rnnattn``.

    Raises:
        UserError: if the arguments contradict each other.
    """

    def __init__(
        self,
        train_files: str | list[str] | None = None,
        val_files: str | list[str] | None = None,
        test_files: str | list[str] | None = None,
        predict_files: str | list[str] | None = None,
        *,
        val_fraction: float = 0.0,
        test_fraction: float = 0.0,
        dataset: str | None = None,
        dataset_config: str | None = None,
        text_column: str = "text",
        train_split: str = "train",
        val_split: str | None = "validation",
        test_split: str | None = "test",
        tokenizer: TokenizerSpec = CharTokenizer(),  # noqa: B008  (frozen)
        batch_size: int = 32,
        seq_len: int = 128,
        seq_len_std: float = 0.0,
        eval_batch_size: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        require_at_least_one("data.", batch_size=batch_size, seq_len=seq_len, eval_batch_size=eval_batch_size)
        if seq_len_std < 0:
            raise UserError(f"data.seq_len_std is {seq_len_std}: it must not be negative")
        require_share("data.", val_fraction=val_fraction, test_fraction=test_fraction)
        if val_fraction + test_fraction >= 1:
            raise UserError(
                "data.val_fraction and data.test_fraction leave nothing to train on: their sum must be below 1"
            )
        self.files = {"train": train_files, "val": val_files, "test": test_files}
        self.predict_files = predict_files
        self.fractions = {"val": 0.0 if val_files else val_fraction, "test": 0.0 if test_files else test_fraction}
        self.dataset = dataset if train_files is None else None
        self.dataset_config, self.text_column = dataset_config, text_column
        self.dataset_splits = {"train": train_split, "val": val_split, "test": test_split}
        self.tokenizer_spec = tokenizer
        self.batch_size, self.seq_len, self.seq_len_std = batch_size, seq_len, seq_len_std
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir).expanduser()
        self._tokenizer: Tokenizer | None = None
        self._corpora: dict[Split, Corpus | None] = {}
        self._arrays: dict[Split, TokenArray] = {}

    def corpus(self, split: Split) -> Corpus | None:
        """The text of a split before any fraction is cut from it, or None; override it to read another source.

        Raises:
            UserError: if files are missing.
        """
        files, name = self.files[split], self.dataset_splits[split]
        if files is not None:
            return FileCorpus(find_files(files, f"data.{split}_files"))
        if self.dataset is not None and name is not None:
            return HubCorpus(self.dataset, self.dataset_config, name, self.text_column)
        return None

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, trained on the training text when it is first asked for, or found in the cache.

        Setting it (a checkpoint's, when a model is tested on other text) discards what was encoded by another.

        Raises:
            UserError: if there is no training text, and none was set.
        """
        if self._tokenizer is None:
            spec = self.tokenizer_spec
            if not spec.needs_text:
                self._tokenizer = spec.train(())
            elif self._whole("train") is not None:
                self._tokenizer = train_tokenizer(spec, self._part("train"), self.cache_dir)
            else:
                raise UserError(
                    "there is no text to train the tokenizer on: give data.train_files or data.dataset, or a"
                    " checkpoint's tokenizer (in Python: data.tokenizer = model.tokenizer)"
                )
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer) -> None:
        if tokenizer != self._tokenizer:
            self._arrays.clear()
        self._tokenizer = tokenizer

    @property
    def vocab_size(self) -> int:
        """The tokenizer's: what a model's ``vocab_size`` is linked to."""
        return self.tokenizer.vocab_size

    def tokens(self, split: Split) -> TokenArray:
        """The token ids of a split, (N,), mapped from disk; encoded first where they are not in the cache.

        Raises:
            UserError: if there is no such split, or its text cannot be read or encoded.
        """
        if split not in self._arrays:
            self._arrays[split] = token_array(self._part(split), self.tokenizer, self.cache_dir)
        return self._arrays[split]

    def train_dataloader(self) -> TokenBatches:
        """The training stream from its beginning."""
        batches = self._batches("train", self.batch_size, self.seq_len_std)
        batches.follow(self.trainer)
        return batches

    def val_dataloader(self) -> TokenBatches | list[TokenBatches]:
        """The validation stream; nothing where there is no text for it, and a fit does without."""
        return self._batches("val", self.eval_batch_size) if self._has_val() or self.run == "validate" else []

    def test_dataloader(self) -> TokenBatches:
        """The test stream."""
        return self._batches("test", self.eval_batch_size)

    def predict_dataloader(self) -> DocumentBatches:
        """The documents to score."""
        documents = [
            Document(str(path), token_array(FileCorpus([path]), self.tokenizer, self.cache_dir))
            for path in self._documents()
        ]
        return DocumentBatches(documents, self.eval_batch_size, self.seq_len, **self.place)

    def _whole(self, split: Split) -> Corpus | None:
        if split not in self._corpora:
            self._corpora[split] = self.corpus(split)
        return self._corpora[split]

    def _has_val(self) -> bool:
        return self.fractions["val"] > 0 or self._whole("val") is not None

    def _part(self, split: Split) -> Corpus:
        """The text of a split, cut from the training text where fractions say so."""
        val, test = self.fractions["val"], self.fractions["test"]
        bounds = {"train": (0.0, 1 - val - test), "val": (1 - val - test, 1 - test), "test": (1 - test, 1.0)}
        cut = val + test > 0 if split == "train" else self.fractions[split] > 0
        corpus = self._whole("train" if cut else split)
        if corpus is None:
            is_train = split == "train" or cut
            ways = "data.train_files or data.dataset" if is_train else f"data.{split}_files or data.{split}_fraction"
            raise UserError(f"there is no text for {split}: give {ways}")
        return Part(corpus, *bounds[split]) if cut else corpus

    def _documents(self) -> Sequence[Path]:
        if self.predict_files is None:
            raise UserError("there is no text to predict: give data.predict_files")
        return find_files(self.predict_files, "data.predict_files")

    def _batches(self, split: Split, batch_size: int, seq_len_std: float = 0.0) -> TokenBatches:
        tokens = self.tokens(split)
        try:
            return TokenBatches(tokens, batch_size, self.seq_len, seq_len_std, **self.place)
        except UserError as error:
            raise UserError(f"{split}: {error}") from error
