"""Pictures of gradients through time."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_rnnattn.callbacks.figures import ACCENT, INK, MUTED, blank_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[tuple[int, float]]
"""(time step, norm), in the order of time."""

_COLOURS = ("#d9cdf2", ACCENT)  # from the first line to the last
_KINDS = ("#1f1b2d", ACCENT, "#f97316", "#0d9488", "#84cc16", "#db2777")
_DECADES = 14  # below so many under the largest, a norm is as good as nothing


def gradient_figure(panels: Mapping[str, Sequence[tuple[int, Curve]]], *, title: str = "") -> "Figure":
    """Draw norms over time on logarithmic scales, a line for each look at the model.

    Args:
        panels: what a panel shows → its lines (training step, curve), from the first to the last, the same steps in
            all. A norm of zero, or one that is not finite, has no place on the scale: the line has a gap there.
        title: said above, in bold.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    steps = [step for step, _ in next(iter(panels.values()))]
    scale = Normalize(steps[0], max(steps[-1], steps[0] + 1))
    colours = LinearSegmentedColormap.from_list("training", _COLOURS)
    figure, axes = _panels(title, list(panels))
    for panel, lines in zip(axes, panels.values(), strict=True):
        for step, points in lines:
            _draw(panel, points, colours(scale(step)), 2.2 if step == steps[-1] else 1.2)
        _cut_below(panel, [points for _, points in lines])
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=axes, fraction=0.03, pad=0.03, aspect=30)
    bar.set_ticks(sorted({steps[0], steps[-1]}))
    bar.set_label("training step", fontsize=9, color=MUTED)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=8.5, length=0, pad=2)
    return figure


def comparison_figure(curves: Mapping[str, Curve], *, title: str = "") -> "Figure":
    """Draw norms of gradients over time as `gradient_figure` does, a line for each of up to six models.

    Args:
        curves: the name of a model → its curve.
        title: said above, in bold.
    """
    figure, (axes,) = _panels(title, ["norm of the gradient with respect to the state"])
    for (name, points), colour in zip(curves.items(), _KINDS, strict=False):
        _draw(axes, points, colour, 1.8, name)
    _cut_below(axes, list(curves.values()))
    figure.legend(loc="outside right center", frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4)
    return figure


def _panels(title: str, quantities: Sequence[str]) -> "tuple[Figure, Sequence[Axes]]":
    figure, made = blank_panels(title, quantities, across="time step", margin=1.2, size=6.0)
    for axes in made:
        axes.set_yscale("log")
    return figure, made


def _draw(axes: "Axes", points: Curve, colour: object, width: float, name: str | None = None) -> None:
    norms = [norm if 0 < norm < np.inf else np.nan for _, norm in points]
    axes.plot([t for t, _ in points], norms, color=colour, linewidth=width, label=name)


def _cut_below(axes: "Axes", curves: Sequence[Curve]) -> None:
    largest = max((norm for points in curves for _, norm in points if 0 < norm < np.inf), default=None)
    if largest is not None:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, largest * 10.0**-_DECADES), high)
