"""One token per word."""

from collections.abc import Iterable
from dataclasses import dataclass

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers.spec import TokenizerSpec
from lightning_rnnattn.tokenizers.tokenizer import Tokenizer

_UNK, _EOS = "<unk>", "<eos>"


@dataclass(frozen=True)
class WordTokenizer(TokenizerSpec):
    """One token per word, words being what white space separates: for text that is tokenised already.

    The vocabulary is ``<unk>``, then ``<eos>``, then the words from the most to the least frequent, equals in the order
    of their code points, then those of ``more_words`` as they come.

    Args:
        min_count: words that occur less often in the training text become ``<unk>``.
        max_size: the most entries in the vocabulary, ``<unk>`` and ``<eos>`` included; None is no limit.
        eos: whether each newline is a token ``<eos>``, as the published sizes and perplexities of WikiText and the Penn
            Treebank count it; otherwise a newline is white space like any other.
        more_words: a text file with a word at the beginning of each line, plain or gzip: these join the vocabulary, be
            they in the training text or not. With the file of an embedding's pretrained ``vectors``, text that is seen
            later has theirs.

    Raises:
        UserError: if ``max_size`` leaves no room for a word, or the file cannot be read.
    """

    min_count: int = 1
    max_size: int | None = None
    eos: bool = True
    more_words: str | None = None

    def __post_init__(self) -> None:
        if self.max_size is not None and self.max_size < 3:
            raise UserError(
                f"data.tokenizer.max_size is {self.max_size}: it must leave room for a word beside {_UNK}, {_EOS}"
            )

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """The tokenizer whose vocabulary is the words of ``texts``."""
        special = [_UNK, _EOS] if self.eos else [_UNK]
        counter = tokenizers.Tokenizer(models.WordLevel())
        counter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        # Special tokens are not given to the trainer: where the text has them too, it would give them two ids.
        trainer = trainers.WordLevelTrainer(vocab_size=2**31, min_frequency=self.min_count, show_progress=False)
        counter.train_from_iterator(texts, trainer)
        counted = counter.get_vocab()
        words = sorted(counted.keys() - set(special), key=counted.__getitem__)
        if self.more_words is not None:
            from lightning_rnnattn.layers.word_vectors import read_words  # all layers come with it

            words = [word for word in dict.fromkeys([*words, *read_words(self.more_words)]) if word not in special]
        vocabulary = (special + words)[: self.max_size]

        tokenizer = tokenizers.Tokenizer(
            models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token=_UNK)
        )
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        if self.eos:
            tokenizer.normalizer = normalizers.Replace("\n", f" {_EOS} ")
            tokenizer.decoder = decoders.Sequence(
                [
                    # No word begins with the newline that is this decoder's prefix: each but the first gets a space.
                    decoders.WordPiece(prefix="\n", cleanup=False),
                    decoders.Replace(Regex(f"^ ?{_EOS}$"), "\n"),
                    decoders.Fuse(),
                    decoders.Replace(Regex("\n "), "\n"),
                ]
            )
        return Tokenizer(tokenizer)
