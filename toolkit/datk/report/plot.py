"""Accuracy against size and against latency, as pictures in the page. matplotlib is imported when called."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datk.artifact.manifest import Metric
from datk.report.summary import Artifact, RunSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette: told apart by colour-blind readers."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


@dataclass(frozen=True)
class Plot:
    """One scatter plot as a data URI. left_out: artifacts without both figures, in words."""

    title: str
    uri: str
    alt: str
    left_out: tuple[str, ...]


def _value(metric: Metric | None) -> float | None:
    return metric.value if metric else None


def _plain(text: str) -> str:
    """Text that matplotlib must not read as mathematics."""
    return text.replace("$", r"\$")


def _scatter(
    artifacts: list[Artifact], summary: RunSummary, *, x: str, x_label: str, divide: float, y: str, y_label: str
) -> str:
    """Draw one plot, x logarithmic; colours and markers are the same in every plot. Returns an SVG data URI."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    targets = list(dict.fromkeys(a.target for a in summary.artifacts))
    precisions = list(dict.fromkeys(a.precision for a in summary.artifacts))
    with rc_context({"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "datk", "svg.fonttype": "path"}):
        figure = Figure(figsize=(5.6, 3.7), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        places = {value / divide for a in artifacts if (value := _value(a.metrics[x]))}
        if len(places) == 1:  # no range to put margins around
            axes.set_xlim(min(places) / 2, max(places) * 2)
        for artifact in artifacts:
            metric = artifact.metrics[y]
            at, height = _value(artifact.metrics[x]), metric.value
            assert at is not None and height is not None  # chosen by the caller
            colour = COLOURS[targets.index(artifact.target) % len(COLOURS)]
            if metric.interval95:
                below, above = (abs(height - end) for end in metric.interval95)
                axes.errorbar(at / divide, height, yerr=[[below], [above]], color=colour, alpha=0.3, capsize=3)
            axes.plot(
                at / divide,
                height,
                linestyle="none",
                marker=_MARKERS[precisions.index(artifact.precision) % len(_MARKERS)],
                markersize=9,
                color=colour,
                markerfacecolor=colour if artifact.verdict == "passed" else "white",
                markeredgewidth=1.8,
                label=_plain(f"{artifact.target} {artifact.precision}")
                + (" (rejected)" if artifact.verdict == "rejected" else ""),
            )
        reference = _value(summary.student.metrics.get(y)) if summary.student else None
        if reference is not None:
            axes.axhline(reference, color="#555", linestyle="--", linewidth=1, label="float student")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(0.12)
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return svg_uri(figure)


def svg_uri(figure: Figure) -> str:
    """A matplotlib figure as an SVG data URI: no date, nothing of the machine."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    undated = {"Date": None, "Creator": None, "Format": None, "Type": None}
    FigureCanvasSVG(figure).print_svg(buffer, metadata=undated)
    svg = buffer.getvalue().decode("utf-8")
    svg = re.sub(r"<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def accuracy_plots(summary: RunSummary) -> list[Plot]:
    """Mini-bench accuracy (or median correlation with the float net, when the bench was not run) against size
    and against latency. A plot nobody has figures for is left out; who lacks a figure is named, and so is who was
    judged by a reference evaluator, whose time says nothing about anything it stands for."""

    def with_figures(*names: str) -> list[Artifact]:
        return [a for a in summary.artifacts if all(_value(a.metrics.get(name)) is not None for name in names)]

    y, y_label, what = "bench_accuracy", "bench, % of pairs", "bench accuracy"
    if not with_figures(y):
        y, y_label, what = "correlation_vs_float_median", "median correlation with float", "correlation with float"
    plots = []
    for x, x_label, divide, title in (
        ("size_bytes", "size, MB", 1e6, f"{what} against size"),
        ("latency_p50_ms", "median latency of the judging runner, ms", 1.0, f"{what} against latency"),
    ):
        chosen = [a for a in with_figures(x, y) if (_value(a.metrics[x]) or 0.0) > 0]
        if x == "latency_p50_ms":
            chosen = [a for a in chosen if not (a.judged_by or "").endswith("-reference")]
        if chosen:
            left_out = tuple(f"{a.target} {a.precision}" for a in summary.artifacts if a not in chosen)
            uri = _scatter(chosen, summary, x=x, x_label=x_label, divide=divide, y=y, y_label=y_label)
            plots.append(Plot(title.capitalize(), uri, f"Scatter plot of {title}", left_out))
    return plots
