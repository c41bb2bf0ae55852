"""A tokenizer that was trained elsewhere."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers.spec import TokenizerSpec
from lightning_rnnattn.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenizerFile(TokenizerSpec):
    """A ``tokenizer.json`` as HF ``tokenizers`` writes it.

    Args:
        path: the file.
    """

    path: str
    needs_text: ClassVar[bool] = False

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """The tokenizer in the file, whatever the ``texts``."""
        try:
            content = Path(os.path.expanduser(self.path)).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"data.tokenizer.path: cannot read {self.path}: {error}") from error
        try:
            return Tokenizer.from_str(content)
        except UserError as error:
            raise UserError(f"data.tokenizer.path: {self.path} is {error}") from error
