"""Tokenizers: how text becomes token ids and back.

A :class:`TokenizerSpec` (``CharTokenizer``, ``WordTokenizer``, ``BPETokenizer``, ``TokenizerFile``) is what a YAML file
names; it is trained on the training text and gives a :class:`Tokenizer`, which is one string of JSON: that string
travels in the checkpoint.
"""

from lightning_rnnattn.tokenizers.bpe import BPETokenizer
from lightning_rnnattn.tokenizers.char import CharTokenizer
from lightning_rnnattn.tokenizers.file import TokenizerFile
from lightning_rnnattn.tokenizers.spec import TokenizerSpec
from lightning_rnnattn.tokenizers.tokenizer import Tokenizer
from lightning_rnnattn.tokenizers.word import WordTokenizer

__all__ = ["BPETokenizer", "CharTokenizer", "Tokenizer", "TokenizerFile", "TokenizerSpec", "WordTokenizer"]
