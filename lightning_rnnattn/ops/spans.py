"""Spans that labels mark, found and compared as the script conlleval does (Tjong Kim Sang and Buchholz 2000).

Letters: B batch, T time, C labels.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class SpanTable(NamedTuple):
    """What each label says of spans, as tensors that label ids index.

    Attributes:
        begins: (C,) bool, whether a span begins there, whatever stands before.
        kind: (C,) int64, the type of span that its element is part of; -1 where it is part of none.
    """

    begins: Tensor
    kind: Tensor


class SpanCounts(NamedTuple):
    """How many spans there are, scalars of int64.

    Attributes:
        correct: predicted with the right type, beginning and end.
        predicted: predicted.
        actual: to be found.
    """

    correct: Tensor
    predicted: Tensor
    actual: Tensor


class Spans(NamedTuple):
    """The spans of sequences.

    Attributes:
        begins: (B, T) bool, whether a span begins at the element.
        kind: (B, T) int64, the type of the span that the element is part of; -1 where it is part of none.
        end: (B, T) int64, the last element of that span; not defined outside of spans.
    """

    begins: Tensor
    kind: Tensor
    end: Tensor


def find_spans(labels: Tensor, mask: Tensor, table: SpanTable) -> Spans:
    """The spans that labels mark.

    A span begins at a label that says so, and at one of another type than the label before it. It ends before the next
    beginning, and before an element that is part of no span.

    Args:
        labels: (B, T) int64.
        mask: (B, T) bool, True = real.
        table: what each label says.
    """
    size = labels.shape[1]
    device = labels.device
    kind = table.kind.to(device)[labels].masked_fill(~mask, -1)
    inside = kind >= 0
    other = torch.ones_like(inside)
    other[:, 1:] = kind[:, 1:] != kind[:, :-1]
    begins = inside & (table.begins.to(device)[labels] | other)
    last = inside.clone()
    last[:, :-1] &= begins[:, 1:] | ~inside[:, 1:]
    ends = torch.arange(size, device=device).expand_as(kind).masked_fill(~last, size)
    return Spans(begins, kind, ends.flip(1).cummin(1).values.flip(1))


def count_spans(predicted: Tensor, actual: Tensor, mask: Tensor, table: SpanTable) -> SpanCounts:
    """Compares predicted spans with those to be found.

    Args:
        predicted: (B, T) int64, labels.
        actual: (B, T) int64, labels.
        mask: (B, T) bool, True = real.
        table: what each label says.

    Example:
        >>> table = SpanTable(begins=torch.tensor([False, True, False]), kind=torch.tensor([-1, 0, 0]))  # O, B-X, I-X
        >>> actual = torch.tensor([[1, 2, 0, 1]])
        >>> counts = count_spans(torch.tensor([[1, 2, 0, 0]]), actual, torch.ones_like(actual, dtype=torch.bool), table)
        >>> [int(count) for count in counts]
        [1, 1, 2]
    """
    found, true = find_spans(predicted, mask, table), find_spans(actual, mask, table)
    correct = found.begins & true.begins & (found.kind == true.kind) & (found.end == true.end)
    return SpanCounts(correct.sum(), found.begins.sum(), true.begins.sum())
