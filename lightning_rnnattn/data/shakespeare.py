"""Tiny Shakespeare, which comes with the package."""

from importlib.resources import files

from lightning_rnnattn.data.corpus import Corpus, FileCorpus
from lightning_rnnattn.data.text import Split, TextDataModule
from lightning_rnnattn.tokenizers import CharTokenizer, TokenizerSpec


class TinyShakespeare(TextDataModule):
    """40,000 lines of Shakespeare's plays (Karpathy 2015; public domain), which come with the package.

    There are 1,115,394 characters, 65 distinct. By default 90 % of them are to train on, then 5 % each to validate and
    to test.

    Args:
        predict_files: documents of your own to score; each file is one.
        val_fraction: the share to validate on.
        test_fraction: the share to test on.
        tokenizer: how to make the tokenizer.
        batch_size: how many streams each process reads side by side.
        seq_len: how many tokens of each stream are in a batch.
        eval_batch_size: streams, or documents, in validation, test and prediction; null is ``batch_size``.
        cache_dir: where encoded text is kept; null is ``$LIGHTNING_RNNATTN_CACHE`` or ``~/.cache/lightning_rnnattn``.
    """

    def __init__(
        self,
        predict_files: str | list[str] | None = None,
        *,
        val_fraction: float = 0.05,
        test_fraction: float = 0.05,
        tokenizer: TokenizerSpec = CharTokenizer(),  # noqa: B008  (frozen)
        batch_size: int = 32,
        seq_len: int = 128,
        eval_batch_size: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(
            predict_files=predict_files,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            tokenizer=tokenizer,
            batch_size=batch_size,
            seq_len=seq_len,
            eval_batch_size=eval_batch_size,
            cache_dir=cache_dir,
        )

    def corpus(self, split: Split) -> Corpus | None:
        """The whole text, for training; the other splits are cut from it."""
        if split != "train":
            return None
        return FileCorpus([str(files("lightning_rnnattn.data") / "samples" / "tinyshakespeare.txt.gz")])
