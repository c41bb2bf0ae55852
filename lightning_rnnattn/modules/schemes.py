"""Schemes by which labels of single elements mark spans of them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lightning_rnnattn.errors import UserError
from lightning_rnnattn.ops.crf import Allowed
from lightning_rnnattn.ops.spans import SpanTable
from lightning_rnnattn.spec import Described


class LabelScheme(Described):
    """How labels of the form ``B-TYPE``, ``I-TYPE`` and ``O`` mark spans.

    A scheme of your own is a frozen dataclass that derives from this class and says what may follow what.
    """

    @abstractmethod
    def follows(self, before: str, after: str) -> bool:
        """Whether one label may follow another; a sequence begins as if after ``O``."""

    def table(self, labels: Sequence[str]) -> SpanTable:
        """What each label says of spans.

        Raises:
            UserError: if a label is neither ``O`` nor ``B-`` or ``I-`` and a type; or none of the others leads to it.
        """
        parts = [self._split(label) for label in labels]
        if lost := self._unreachable(labels):
            fitting = [kind.__name__ for kind in (BIO, IOB1) if not kind()._unreachable(labels)]
            way = f"they look like {fitting[0]}: set model.scheme to {fitting[0]}" if fitting else "correct them"
            raise UserError(
                f"model.scheme: in {type(self).__name__} none of the data's labels leads to {lost[0]!r}, which would "
                f"never be predicted: {way}"
            )
        kinds = {kind: i for i, kind in enumerate(sorted({kind for prefix, kind in parts if prefix != "O"}))}
        return SpanTable(
            torch.tensor([prefix == "B" for prefix, _ in parts]),
            torch.tensor([-1 if prefix == "O" else kinds[kind] for prefix, kind in parts]),
        )

    def allowed(self, labels: Sequence[str]) -> Allowed:
        """Which labels may follow which, begin and end a sequence."""
        return Allowed(
            transition=torch.tensor([[self.follows(before, after) for after in labels] for before in labels]),
            start=torch.tensor([self.follows("O", after) for after in labels]),
            end=torch.ones(len(labels), dtype=torch.bool),
        )

    def _unreachable(self, labels: Sequence[str]) -> list[str]:
        """The labels that no sequence of these labels comes to: in `BIO`, ``I-TYPE`` where there is no ``B-TYPE``."""
        reached, new = set[str](), {"O"}
        while new:
            reached |= new
            new = {after for after in labels for before in new if self.follows(before, after)} - reached
        return [label for label in labels if label not in reached]

    def _split(self, label: str) -> tuple[str, str]:
        prefix, _, kind = label.partition("-")
        if label != "O" and (prefix not in ("B", "I") or not kind):
            raise UserError(
                f"model.scheme: {type(self).__name__} knows labels O, B-TYPE and I-TYPE, and the data has {label!r}: "
                "leave model.scheme null for labels that mark no spans"
            )
        return prefix, kind


@dataclass(frozen=True)
class BIO(LabelScheme):
    """``B-`` begins every span, ``I-`` goes on with one (IOB2; CoNLL-2002 and most since)."""

    def follows(self, before: str, after: str) -> bool:
        """``I-TYPE`` only after ``B-`` or ``I-`` of its type."""
        return not after.startswith("I-") or before[2:] == after[2:]


@dataclass(frozen=True)
class IOB1(LabelScheme):
    """``I-`` begins and goes on with spans; ``B-`` begins one right after another of its type (CoNLL-2003's files)."""

    def follows(self, before: str, after: str) -> bool:
        """``B-TYPE`` only after ``B-`` or ``I-`` of its type."""
        return not after.startswith("B-") or before[2:] == after[2:]
