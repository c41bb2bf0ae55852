"""The picture of gradients through time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_rnnattn.callbacks.figures import ACCENT, FAINT, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#d9cdf2", ACCENT)  # from the first line to the last
_DECADES = 14  # below so many under the largest, a norm is as good as nothing


def gradient_figure(lines: Sequence[tuple[int, Sequence[tuple[int, float]]]], *, title: str = "") -> "Figure":
    """Draw norms over time on a logarithmic scale, a line for each look at the model.

    Args:
        lines: (training step, [(time step, norm), …]), from the first to the last. A norm of zero, or one that is not
            finite, has no place on the scale: the line has a gap there.
        title: said above, in bold.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.18, h_pad=0.14)
    figure = Figure(figsize=(7.2, 4.1), layout=layout, facecolor="white")
    axes = figure.subplots()
    axes.set_yscale("log")
    steps = [step for step, _ in lines]
    scale = Normalize(steps[0], max(steps[-1], steps[0] + 1))
    colours = LinearSegmentedColormap.from_list("training", _COLOURS)
    largest = 0.0
    for step, points in lines:
        norms = np.array([norm if 0 < norm < np.inf else np.nan for _, norm in points])
        largest = max(largest, np.nan_to_num(norms).max(initial=0.0))
        width = 2.2 if step == steps[-1] else 1.2
        axes.plot([t for t, _ in points], norms, color=colours(scale(step)), linewidth=width)
    if largest:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, largest * 10.0**-_DECADES), high)
    axes.set_title("norm of the gradient with respect to the state", loc="left", fontsize=11, color=INK, pad=8)
    axes.set_xlabel("time step", fontsize=9, color=MUTED)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=0, which="both")
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=axes, fraction=0.03, pad=0.03, aspect=30)
    bar.set_ticks(sorted({steps[0], steps[-1]}))
    bar.set_label("training step", fontsize=9, color=MUTED)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=8.5, length=0, pad=2)
    figure.suptitle(title, x=0.18 / figure.get_figwidth(), ha="left", fontsize=13, fontweight="bold", color=INK)
    return figure
