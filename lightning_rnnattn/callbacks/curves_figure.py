"""How quantities went over a run, as a picture."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightning_rnnattn.callbacks.figures import ACCENT, INK, blank_panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves_figure(curves: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], *, title: str = "") -> "Figure":
    """Draw how quantities went over a run, a panel for each.

    Args:
        curves: quantity → the name of a curve → its points (step, value), such as
            ``{"loss": {"train": [(50, 3.1), …], "val": [(100, 2.9), …]}}``. At least one quantity, and one point of a
            curve. The curve "val" is drawn in front.
        title: said above the panels, in bold.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    figure, made = blank_panels(title, list(curves), across="step", margin=0.6, size=5.2)
    for axes, lines in zip(made, curves.values(), strict=True):
        for name, points in lines.items():
            _draw_curve(axes, name, points, front=name == "val")
        values = [value for points in lines.values() for _, value in points if math.isfinite(value)]
        if values and min(values) > 0 and (ratio := max(values) / min(values)) > 8:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 1e3 else (1,)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False, fontsize=9, labelcolor=INK, handlelength=1.4, loc="best")
    return figure


def _draw_curve(axes: "Axes", name: str, points: Sequence[tuple[int, float]], front: bool) -> None:
    steps, values = [step for step, _ in points], [value for _, value in points]
    style: dict[str, Any] = {"color": "#b9b3c9", "linewidth": 1.3, "zorder": 2}
    if front:
        marker = "o" if len(points) < 30 else None
        style = {"color": ACCENT, "linewidth": 2.0, "zorder": 3, "marker": marker, "markersize": 4}
        last: dict[str, Any] = {
            "textcoords": "offset points",
            "xytext": (0, 7),
            "ha": "center",
            "fontsize": 9,
            "color": ACCENT,
        }
        axes.annotate(f"{values[-1]:.2f}", (steps[-1], values[-1]), **last)
    axes.plot(steps, values, label=name, **style)
