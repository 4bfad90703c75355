"""One look for all plots. Needs matplotlib; a question yields its rows first and draws last."""

# pyright: reportUnknownMemberType=false
# matplotlib's keyword arguments have no types; what touches them stays in this module.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import Options

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: One color a candidate, in the order in which they are drawn; ours come first.
COLORS = ("#2f6db3", "#7fb2e5", "#d9822b", "#8a8f98", "#5b9f6b", "#b04a5a")


def new(title: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many panels side by side.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 4.0 * panels, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes: list[Axes] = [figure.add_subplot(1, panels, number + 1) for number in range(panels)]
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_prop_cycle(color=COLORS)
        panel.tick_params(labelsize=8)
    return figure, axes


def bars(
    panel: Axes,
    heights: Mapping[str, float],
    title: str,
    form: str = "{:,.0f}",
    *,
    log: bool = False,
) -> None:
    """Draw one bar a candidate, with its height written on it."""
    colors = [COLORS[number % len(COLORS)] for number in range(len(heights))]
    drawn = panel.bar(list(heights), list(heights.values()), color=colors)
    if log:
        panel.set_yscale("log")
    panel.bar_label(drawn, [form.format(height) for height in heights.values()], fontsize=8)
    panel.set_title(title, fontsize=9)
    panel.tick_params(axis="x", rotation=20)


def curves(
    panel: Axes,
    points: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x: str,
    y: str,
) -> None:
    """Draw one line a candidate through its points (all x, all y), and a legend."""
    for name, (xs, ys) in points.items():
        panel.plot(xs, ys, label=name, linewidth=1.5)
    panel.set_title(title, fontsize=9)
    panel.set_xlabel(x, fontsize=8)
    panel.set_ylabel(y, fontsize=8)
    panel.legend(fontsize=8, frameon=False)


def save(figure: Figure, options: Options, name: str) -> Path:
    """Write a figure as a PNG of that name to the directory of the results; return its path."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{name}.png"
    figure.savefig(path, dpi=150)
    return path
