"""The picture of highlighted texts: a pure function, as those in `figures`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lightning_rnnattn.callbacks.figures import (
    INK,
    LETTER,
    MUTED,
    WEIGHT_COLOURS,
    drawable,
    letters_wide,
    token_style,
    visible,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINE, _GAP = 0.2, 0.1  # inches, of a line and between texts
_COLUMNS = 100  # letters of a line


class Highlighted(NamedTuple):
    """A text with weights.

    Attributes:
        tokens: its tokens.
        weights: the weight of each.
        note: what is said of it, in a few letters.
    """

    tokens: Sequence[str]
    weights: Sequence[float]
    note: str


def highlights_figure(texts: Sequence[Highlighted], *, title: str = "", subtitle: str = "") -> "Figure":
    """Draw texts, a highlighter over their tokens, the note at the left.

    Tokens that are single letters stand close together, others with a space between. The scale goes to the strongest
    weight of each text.

    Args:
        texts: at least one.
        title: said above, in bold.
        subtitle: said under the title.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    apart = any(len(token.strip()) > 1 for text in texts for token in text.tokens)
    placed = [list(_place(text.tokens, int(apart))) for text in texts]
    columns = max((column + letters_wide(token) for tokens in placed for token, _, column in tokens), default=1)
    notes = [drawable(text.note) for text in texts]
    rows = [1 + max((row for _, row, _ in tokens), default=0) for tokens in placed]
    edge, head = 0.3, 0.8
    left = edge + 0.25 + LETTER * max(map(letters_wide, notes))
    width = max(left + LETTER * columns, 0.068 * len(subtitle) + edge) + edge
    height = head + sum(rows) * _LINE + len(rows) * _GAP + edge - _GAP
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    colours = LinearSegmentedColormap.from_list("attention", WEIGHT_COLOURS)
    style = token_style(frozenset("".join([*notes, *(shown for tokens in placed for shown, _, _ in tokens)])))
    top = head
    for text, note, tokens, lines in zip(texts, notes, placed, rows, strict=True):
        axes.text(edge, top + _LINE / 2, note, color=MUTED, **style)
        strongest = max(text.weights, default=1.0) or 1.0
        for (token, row, column), weight in zip(tokens, text.weights, strict=True):
            x, y = left + column * LETTER, top + row * _LINE
            size = (LETTER * letters_wide(token), _LINE * 0.86)
            axes.add_patch(Rectangle((x, y + 0.07 * _LINE), *size, color=colours(weight / strongest), linewidth=0))
            axes.text(x, y + _LINE / 2, token, color=INK, **style)
        top += lines * _LINE + _GAP
    figure.text(edge / width, 1 - 0.25 / height, title, va="top", fontsize=13, fontweight="bold", color=INK)
    figure.text(edge / width, 1 - 0.5 / height, subtitle, va="top", fontsize=9, color=MUTED, parse_math=False)
    return figure


def _place(tokens: Sequence[str], space: int) -> Iterator[tuple[str, int, int]]:
    """Each token as it is written, and its row and column."""
    row = column = 0
    for token in tokens:
        shown = drawable(visible(token.strip() if space else token)) or " "
        width = letters_wide(shown)
        if column and column + width > _COLUMNS:
            row, column = row + 1, 0
        yield shown, row, column
        column += width + space
