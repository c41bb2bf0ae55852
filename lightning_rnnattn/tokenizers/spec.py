"""What a YAML file says about the tokenizer."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from lightning_rnnattn.spec import Described
from lightning_rnnattn.tokenizers.tokenizer import Tokenizer


class TokenizerSpec(Described):
    """How to make a tokenizer: its kind and options, before it has seen any text.

    A tokenizer of your own is a frozen dataclass that derives from this class; its fields are the options in YAML.

    Attributes:
        needs_text: whether :meth:`train` reads the text; without it, nothing is read and nothing cached.
    """

    needs_text: ClassVar[bool] = True

    @abstractmethod
    def train(self, texts: Iterable[str]) -> Tokenizer:
        """The tokenizer for ``texts``.

        Args:
            texts: the training text in pieces, lines as a rule, each with its newline. Joined, they are the whole text.
        """
