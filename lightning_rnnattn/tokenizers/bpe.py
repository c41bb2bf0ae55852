"""Byte-level byte-pair encoding."""

from collections.abc import Iterable
from dataclasses import dataclass

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers.spec import TokenizerSpec
from lightning_rnnattn.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class BPETokenizer(TokenizerSpec):
    """Byte-pair encoding (Sennrich et al. 2016) of the UTF-8 bytes (Radford et al. 2019), to which nothing is unknown.

    No token reaches past a newline, so that a text cut at its newlines has the tokens of the whole.

    Args:
        vocab_size: the most tokens to have: the 256 bytes and the pairs merged most often.
        min_count: pairs that occur less often are not merged.
    """

    vocab_size: int = 8000
    min_count: int = 2

    def __post_init__(self) -> None:
        if self.vocab_size < 256:
            raise UserError(
                f"BPETokenizer: vocab_size is {self.vocab_size}: it must be at least 256, one for each byte"
            )

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """The tokenizer with the pairs that are most frequent in ``texts``."""
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split("\n", behavior="merged_with_previous"),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_count,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return Tokenizer(tokenizer)
