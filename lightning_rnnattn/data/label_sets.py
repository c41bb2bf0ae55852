"""The labels of a data set: learnt from what is trained on, numbered in their order."""

import re
from collections.abc import Iterable, Sequence

from lightning_rnnattn.data.tables import listed
from lightning_rnnattn.errors import UserError


def learnt_labels(found: Iterable[str], source: str, at_least: int = 2) -> tuple[str, ...]:
    """The distinct labels in their order: by value where all are whole numbers, else by code points.

    Args:
        found: the label of each example, or of each element.
        source: where they come from, for the message.
        at_least: how many there must be.

    Raises:
        UserError: if there are fewer.
    """
    labels = set(found)
    if len(labels) < at_least:
        raise UserError(
            f"{source}: there is nothing to tell apart: the labels are {listed(sorted(labels)) or 'none'}, at least"
            f" {at_least} are needed"
        )
    if all(re.fullmatch("-?[0-9]{1,18}", label) for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


class LabelIds:
    """The number of each label.

    Args:
        labels: the labels in the order of their numbers.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._ids = {label: i for i, label in enumerate(self.labels)}

    def __call__(self, label: str, place: str) -> int:
        """The number of ``label``.

        Args:
            label: the label.
            place: ``file:line``, for the message.

        Raises:
            UserError: if it is none of the labels, naming it, its place and the labels.
        """
        if label not in self._ids:
            raise UserError(
                f"{place}: the label {label!r} is not among those that were trained on: {listed(self.labels)}"
            )
        return self._ids[label]
