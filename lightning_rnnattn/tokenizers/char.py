"""One token per character."""

from collections.abc import Iterable
from dataclasses import dataclass

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from lightning_rnnattn.tokenizers.spec import TokenizerSpec
from lightning_rnnattn.tokenizers.tokenizer import Tokenizer

_UNK = "<unk>"


@dataclass(frozen=True)
class CharTokenizer(TokenizerSpec):
    """One token per character (Unicode code point), in the order of the code points.

    Args:
        unk: whether there is a token ``<unk>``, id 0, for characters that the training text does not have. Without it,
            such a character is an error; with it, bits per character are not defined.
    """

    unk: bool = False

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """The tokenizer whose vocabulary is every character of ``texts``."""
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        vocabulary = [_UNK] * self.unk + sorted(characters)
        ids = {token: i for i, token in enumerate(vocabulary)}
        # Without unk_token, WordLevel refuses what it does not know; HF's other models would drop it silently.
        model = models.WordLevel(ids, unk_token=_UNK) if self.unk else models.WordLevel(ids)
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        tokenizer.decoder = decoders.Fuse()
        return Tokenizer(tokenizer)
