"""The pictures of this package: pure functions from arrays and words to a matplotlib `Figure`.

They use matplotlib's object-oriented interface alone (no pyplot, no global state, no display), imported when the first
picture is drawn. T queries, S keys, H heads.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_rnnattn.callbacks.run import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f1b2d"
MUTED = "#857f96"
FAINT = "#e9e6f0"
PALE = "#cdc8d8"
ACCENT = "#6d28d9"
# From "hardly" to "only here". It does not begin at white: what a mask forbids stays white, and shows.
WEIGHT_COLOURS = ("#fffdf5", "#fff0bf", "#ffd75e", "#ffab2e", "#f97316")
# Tokens stand in a fixed-width face; the others are asked first, where they are installed, for what it lacks.
_TOKEN_FONTS = (
    "DejaVu Sans Mono",
    "DejaVu Sans",
    "Noto Sans Mono CJK JP",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Arial Unicode MS",
)
_VISIBLE = str.maketrans({" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"})
DPI = 160
ADVANCE = 0.602  # how wide a letter of the fixed-width face is, in its size
LETTER = 12 / DPI  # and in inches: whole pixels, since letters are set on them
_ROW = 36 / DPI  # the height of a row of text, likewise


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, in one step. Its colours are few: a palette makes the file a quarter of the size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # The palette is found on every fourth pixel: as good, and much sooner; the paper stays white.
    sample = pixels.resize((pixels.width // 4, pixels.height // 4), Image.Resampling.NEAREST)
    few = pixels.quantize(palette=sample.quantize(256, Image.Quantize.MEDIANCUT), dither=Image.Dither.NONE)
    palette = few.getpalette() or []
    paper = 3 * int(few.getpixel((0, 0)))  # type: ignore[arg-type]
    palette[paper : paper + 3] = [255, 255, 255]
    few.putpalette(palette)
    with replacing(path) as partial:
        few.save(partial)


def visible(token: str) -> str:
    """A token as it can be seen on an axis: ``␣`` for a space, ``⏎`` for a line's end."""
    return token.translate(_VISIBLE)


def blank_panels(
    title: str, quantities: Sequence[str], *, across: str, margin: float, size: float
) -> "tuple[Figure, Sequence[Axes]]":
    """An empty figure with a panel for each quantity, side by side.

    Args:
        title: said above the panels, in bold.
        quantities: what each shows, said above it.
        across: what goes from left to right in all of them.
        margin: inches beside them all.
        size: the width of one, in inches.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.18, h_pad=0.14)
    figure = Figure(figsize=(margin + size * len(quantities), 4.1), layout=layout, facecolor="white")
    made = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, quantity in zip(made, quantities, strict=True):
        axes.set_title(quantity, loc="left", fontsize=11, color=INK, pad=8)
        axes.set_xlabel(across, fontsize=9, color=MUTED)
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)
        axes.tick_params(colors=MUTED, labelsize=8.5, length=0, which="both")
    figure.suptitle(title, x=0.18 / figure.get_figwidth(), ha="left", fontsize=13, fontweight="bold", color=INK)
    return figure, made


def attention_figure(
    weights: NDArray[np.floating[Any]],
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str = "",
    subtitle: str = "",
) -> "Figure":
    """Draw the attention weights of one example, a panel for each head.

    Where a text of single characters looks at itself, a row is the text, with a highlighter over what the query looked
    at; what it could not see is pale. Otherwise it is a row of cells, the queries at the left and the keys above.

    Args:
        weights: (H, T, S); a key whose weight is exactly zero in all heads counts as not seen.
        queries: the T tokens that looked, from top to bottom.
        keys: the S tokens that they looked at, from left to right.
        title: said above the panels, in bold.
        subtitle: said under the title.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure

    heads, rows, columns = weights.shape
    labels = [drawable(visible(token)) for token in queries], [drawable(visible(token)) for token in keys]
    as_text = all(map(_is_one_cell, labels[1])) and labels[0] == labels[1][-rows:]
    style = token_style(frozenset("".join(map("".join, labels))))
    across = math.ceil(math.sqrt(heads))
    down = math.ceil(heads / across)
    # The layout, in inches. Text lies exactly on its cells: a cell is as wide as a letter.
    cell = (LETTER, _ROW) if as_text else (0.165, 0.165)
    panel = (columns * cell[0], rows * cell[1])
    left, above = (0.0, 0.0) if as_text else (_extent(labels[0]), _extent(labels[1]))
    edge, head, gap = 0.3, 0.65, 0.3
    right = edge + left + across * (panel[0] + gap)
    width = max(right + 0.45, 2 * edge + 0.067 * len(subtitle))
    height = edge + down * (panel[1] + gap) + above + head
    width, height = math.ceil(width * DPI) / DPI, math.ceil(height * DPI) / DPI
    figure = Figure(figsize=(width, height), facecolor="white", dpi=DPI)
    # The scale ends at the strongest weights, but for first rows, which see few keys; and not below three times what
    # looking everywhere alike would give, so that it stays pale.
    seen = weights[weights > 0]
    strongest = 1.0
    if seen.size:
        strongest = min(1.0, max(float(np.quantile(seen, 0.995)), 3 * heads * rows / seen.size))
    norm = Normalize(0.0, strongest)
    colours = ScalarMappable(norm, LinearSegmentedColormap.from_list("attention", WEIGHT_COLOURS))
    for number, head_weights in enumerate(weights):
        row, column = divmod(number, across)
        x = edge + left + column * (panel[0] + gap)
        y = height - head - above - (row + 1) * (panel[1] + gap)
        if as_text:
            coloured = np.where(head_weights[..., None] > 0, colours.to_rgba(head_weights)[..., :3], 1.0)
            written = _written(coloured, weights.max(axis=0) > 0, "".join(labels[1]))
            figure.figimage(written, round(x * DPI), round(y * DPI), origin="upper")
        else:
            axes = figure.add_axes((x / width, y / height, panel[0] / width, panel[1] / height), frameon=False)
            axes.set(xticks=[], yticks=[])
            axes.imshow(
                np.ma.masked_equal(head_weights, 0.0), cmap=colours.cmap, norm=norm, aspect="auto", interpolation="none"
            )
            _write_edges(axes, labels, style, left=column == 0, top=row == 0)
        if heads > 1:
            top = y + panel[1] + 0.06 + (above if row == 0 else 0)
            figure.text(x / width, top / height, f"head {number + 1}", fontsize=9, color=MUTED)
    bar_axes = figure.add_axes(((right - 0.1) / width, edge / height, 0.08 / width, min(1.2, panel[1]) / height))
    bar = figure.colorbar(colours, cax=bar_axes, ticks=[0.0, strongest / 2, strongest])
    bar.outline.set_visible(False)
    bar_axes.yaxis.set_major_formatter(lambda weight, _: f"{100 * weight:.2g} %")
    bar_axes.tick_params(colors=MUTED, labelsize=7.5, length=0, pad=2)
    figure.text(edge / width, 1 - 0.25 / height, title, va="top", fontsize=13, fontweight="bold", color=INK)
    figure.text(edge / width, 1 - 0.5 / height, subtitle, va="top", fontsize=9, color=MUTED, parse_math=False)
    return figure


def _written(background: NDArray[np.floating[Any]], seen: NDArray[np.bool_], text: str) -> NDArray[np.floating[Any]]:
    """A text in each row, on cells of the colours (T, S, 3), in ink where it was seen (T, S), pale elsewhere.

    The text is set once and laid over all rows: matplotlib would set each of them, which takes a hundred times as long.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.font_manager import findfont
    from PIL import Image, ImageDraw, ImageFont

    across, down = round(LETTER * DPI), round(_ROW * DPI)
    font = ImageFont.truetype(findfont(_TOKEN_FONTS[0]), LETTER * DPI / ADVANCE)
    line = Image.new("L", (across * len(text), down))
    pen = ImageDraw.Draw(line)
    for place, letter in enumerate(text):
        pen.text(((place + 0.5) * across, 0.68 * down), letter, fill=255, font=font, anchor="ms")
    covered = np.tile(np.asarray(line) / 255, (len(seen), 1))[..., None]
    ink = np.where(seen[..., None], to_rgb(INK), to_rgb(PALE))
    cells, inks = (colours.repeat(down, axis=0).repeat(across, axis=1) for colours in (background, ink))
    cells[::down] = cells[down - 1 :: down] = 1.0  # a white line between rows
    return cells * (1 - covered) + inks * covered


def _write_edges(
    axes: "Axes", labels: tuple[list[str], list[str]], style: Mapping[str, Any], left: bool, top: bool
) -> None:
    if left:
        for row, label in enumerate(labels[0]):
            axes.text(-0.9, row, label, ha="right", color=INK, **style)
    if top:
        for column, label in enumerate(labels[1]):
            axes.text(column, -0.9, label, ha="center", rotation=90, color=INK, **{**style, "va": "bottom"})


def token_style(characters: frozenset[str]) -> dict[str, Any]:
    """How tokens of these characters are written: their faces and size, where they stand."""
    others = {family for character in characters if (family := _family(character))} - {_TOKEN_FONTS[0]}
    return {
        "family": [_TOKEN_FONTS[0], *sorted(others)],
        "fontsize": 72 * LETTER / ADVANCE,
        "va": "center_baseline",
        "parse_math": False,  # a token may be "$"
    }


def drawable(text: str) -> str:
    """A text with the code of each character in the place of those that are invisible or in no installed font."""
    return "".join(c if c.isprintable() and _family(c) else f"U+{ord(c):04X}" for c in text)


@cache
def _family(character: str) -> str | None:
    """The first font that has a character: of those named above, or else any that is installed."""
    from matplotlib.font_manager import fontManager

    upright = {font.name: font.fname for font in fontManager.ttflist if (font.style, font.weight) == ("normal", 400)}
    names = [*(name for name in _TOKEN_FONTS if name in upright), *sorted(upright.keys() - {*_TOKEN_FONTS})]
    # The "last resort" has a box for every character.
    return next((n for n in names if "Last Resort" not in n and ord(character) in _characters(upright[n])), None)


@cache
def _characters(path: str) -> frozenset[int]:
    """What a font has."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(path).get_charmap())


def _is_one_cell(token: str) -> bool:
    """Whether a token is one letter of the fixed-width face, to be written from left to right and by itself."""
    if len(token) != 1 or unicodedata.bidirectional(token) in ("R", "AL", "AN", "NSM"):
        return False
    return _family(token) == _TOKEN_FONTS[0]


def _extent(labels: Sequence[str]) -> float:
    """How long the longest label is, in inches, with some air."""
    return 0.1 + LETTER * max(map(letters_wide, labels), default=0)


def letters_wide(label: str) -> int:
    """How many letters wide a label is."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in label)
