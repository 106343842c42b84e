"""A sensitivity map as a picture: one bar per layer in the order of the net, blocks and kinds beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datk.artifact.files import atomic_path
from datk.report.plot import COLOURS

FLOOR = 1e-9
"""Errors are drawn on a logarithmic axis; none is drawn below this."""


def write_sensitivity_plot(
    path: Path, layers: Sequence[tuple[str, str, float]], groups: Sequence[tuple[str, str, float]], title: str
) -> None:
    """Write an SVG. layers and groups: (name, kind, error = 1 - r), layers in the net's order."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(kind for _, kind, _ in layers))
    height = 1.2 + 0.13 * max(len(layers), len(groups) + len(kinds))
    with rc_context({"font.family": "DejaVu Sans", "font.size": 7, "svg.hashsalt": "datk", "svg.fonttype": "path"}):
        figure = Figure(figsize=(11, height), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        figure.suptitle(title)
        for axes, rows in ((left, layers), (right, groups)):
            colours = [COLOURS[kinds.index(kind) % len(COLOURS)] if kind in kinds else "#777777" for _, kind, _ in rows]
            drawn = [min(max(error, FLOOR), 2.0) for _, _, error in rows]
            axes.barh(range(len(rows)), drawn, color=colours, left=0)
            axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
            axes.set_xscale("log")
            axes.invert_yaxis()
            axes.set_xlabel("1 - r with the float net, this alone in int8")
            axes.grid(axis="x", alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(y=0.01)
        with atomic_path(path) as part:
            undated = {"Date": None, "Creator": None, "Format": None, "Type": None}
            FigureCanvasSVG(figure).print_svg(part, metadata=undated)
