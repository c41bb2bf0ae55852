"""The picture of a confusion matrix: a pure function, as those in `figures`.

Letters: L labels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_rnnattn.callbacks.figures import ACCENT, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = 0.42  # inches


def confusion_figure(
    counts: NDArray[np.integer[Any]], labels: Sequence[str], *, title: str = "", subtitle: str = ""
) -> "Figure":
    """Draw how often each label was predicted for each.

    A row is coloured by shares of its own, so that rare labels are as visible as frequent ones.

    Args:
        counts: (L, L), row = the right label, column = the predicted one.
        labels: the names, L of them.
        title: said above, in bold.
        subtitle: said under the title.
    """
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure

    size = len(labels) * _CELL
    longest = max(map(len, labels))
    room = 0.3 + 0.075 * longest
    left, right, head, foot = 0.25 + room, 0.9, 0.75, 0.3 + (room if longest > 3 else 0.3)
    width = max(left + size + right, 0.5 + 0.068 * len(subtitle))
    height = head + size + foot
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((left / width, foot / height, size / width, size / height))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    colours = LinearSegmentedColormap.from_list("confusion", ("#fbfaff", "#c4b5fd", ACCENT, "#3b0f87"))
    axes.imshow(shares, cmap=colours, norm=Normalize(0.0, 1.0), interpolation="none")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.45 else INK
            axes.text(column, row, _short(int(count)), ha="center", va="center", fontsize=8, color=colour)
    style: dict[str, Any] = {"fontsize": 9, "color": INK, "parse_math": False}
    axes.set_xticks(range(len(labels)), labels, rotation=90 if longest > 3 else 0, **style)
    axes.set_yticks(range(len(labels)), labels, **style)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    edges = np.arange(len(labels) + 1) - 0.5
    axes.hlines(edges, -0.5, len(labels) - 0.5, color="white", linewidth=1.5)
    axes.vlines(edges, -0.5, len(labels) - 0.5, color="white", linewidth=1.5)
    axes.set_xlabel("predicted", fontsize=9, color=MUTED)
    axes.set_ylabel("right", fontsize=9, color=MUTED)
    for row, share in enumerate(shares.diagonal()):
        where = (len(labels) - 0.4, row)
        axes.annotate(f"{share:.0%}", where, va="center", fontsize=8, color=MUTED, annotation_clip=False)
    figure.text(0.25 / width, 1 - 0.2 / height, title, va="top", fontsize=13, fontweight="bold", color=INK)
    figure.text(0.25 / width, 1 - 0.45 / height, subtitle, va="top", fontsize=9, color=MUTED, parse_math=False)
    return figure


def _short(count: int) -> str:
    """A count in four characters."""
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
