"""Where a model looked, in the form that pictures and pages show.

Letters: B batch, H heads, T queries, S keys.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers import Tokenizer


class AttentionView(NamedTuple):
    """Where a model looked in one example.

    Attributes:
        queries: T names of what looked, in order: tokens that were read or produced, or the queries of a pooling.
        keys: S names of what was looked at; the same as the queries where a text looks at itself.
        weights: (H, T, S) float32 on the CPU. A key whose weight is exactly zero in all heads counts as not seen.
        name: tells the views of an example apart, such as "hypothesis 2"; empty for the only one.
    """

    queries: tuple[str, ...]
    keys: tuple[str, ...]
    weights: Tensor
    name: str = ""

    @classmethod
    def of(cls, weights: Tensor, queries: Sequence[str], keys: Sequence[str], name: str = "") -> "AttentionView":
        """A view of weights (H, T', S') of any dtype and device, of which the first T and S are real."""
        return cls(tuple(queries), tuple(keys), weights[:, : len(queries), : len(keys)].detach().float().cpu(), name)


@runtime_checkable
class ShowsAttention(Protocol):
    """What a module offers to have its attention drawn (`AttentionMap`) and inspected (`lightning_rnnattn inspect`).

    Both methods are called in evaluation mode without gradients. An example has several views where there are several
    things to see: layers, or the hypotheses of a beam. Both raise `UserError` where the model has no attention.

    ==================  ==============================================  =================================
    model               queries                                         keys
    ==================  ==============================================  =================================
    language model      the tokens                                      the tokens
    sequence to seq.    target tokens, ``<eos>`` included               source tokens, ``<eos>`` included
    classifier          the queries of the pooling, "pooling 1", …      the tokens, or frames
    tagger              the words                                       the words
    ==================  ==============================================  =================================
    """

    def attention_views(self, batch: Any, rows: int) -> list[list[AttentionView]]:
        """The views of the first ``rows`` examples of a validation batch, which is on the module's device.

        Only those rows are computed: the cost must not depend on the size of the batch.
        """

    def text_views(self, text: str) -> list[AttentionView]:
        """The views of a text as a user types it; a sequence-to-sequence model's are of what it answers."""


def encoded(tokenizer: Tokenizer | None, text: str) -> list[int]:
    """The ids of a text that a user types, at least one.

    Raises:
        UserError: if there is no tokenizer, or the text has no token, or one that the tokenizer cannot encode.
    """
    if tokenizer is None:
        raise UserError("the model has no tokenizer to read a text with: set model.tokenizer")
    if not (ids := tokenizer.encode(text)):
        raise UserError(f"there is no token in the text {text!r}")
    return ids
