"""Accuracy against bytes and against latency over model size, bucket and precision, with the Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datk.artifact.files import atomic_path
from datk.errors import UsageError
from datk.report.plot import Plot, svg_uri
from datk.report.summary import Artifact, RunSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
ENDINGS = (".svg", ".png", ".pdf")
AXES = (("size_bytes", "size, MB", 1e6), ("latency_p50_ms", "median latency on this machine, ms", 1.0))
"""(metric, label, divisor); smaller is better on both."""
ACCURACY = "bench_accuracy"


@dataclass(frozen=True)
class Point:
    """One artifact. cost: smaller is better. gain: larger is better."""

    model: str
    """Recipe, which stands for the size of the net."""
    target: str
    precision: str
    bucket: str
    cost: float
    gain: float
    passed: bool

    @property
    def name(self) -> str:
        return f"{self.model} {self.target} {self.precision} {self.bucket}"


def front(points: Iterable[Point]) -> list[Point]:
    """Those that no other beats: nothing that passed its gates costs less for at least as much, by rising cost.

    Of several with the same cost and gain one stays. What did not pass is never on it.
    """
    best: list[Point] = []
    for point in sorted((p for p in points if p.passed), key=lambda p: (p.cost, -p.gain, p.name)):
        if not best or point.gain > best[-1].gain:
            best.append(point)
    return best


def points_of(summaries: Sequence[RunSummary], metric: str, divisor: float) -> tuple[list[Point], list[str]]:
    """(points, names of the artifacts without one of the two figures). A stand-in's time is no figure of a target."""
    found, left_out = [], []
    for summary in summaries:
        stand_ins = {r.artifact for v in summary.verdicts if not v.speed_by for r in v.rows}
        for artifact in summary.artifacts:
            cost, gain = _value(artifact, metric), _value(artifact, ACCURACY)
            timeless = metric == "latency_p50_ms" and (
                f"50-export-{artifact.id}" in stand_ins or (artifact.judged_by or "").endswith("-reference")
            )
            if cost is None or gain is None or cost <= 0 or timeless:
                left_out.append(f"{summary.recipe} {artifact.id}")
                continue
            size = artifact.contract.input_size if artifact.contract is not None else None
            found.append(
                Point(
                    model=summary.recipe,
                    target=artifact.target,
                    precision=artifact.precision,
                    bucket=f"{size[0]}x{size[1]}" if size else "?",
                    cost=cost / divisor,
                    gain=gain,
                    passed=artifact.verdict == "passed",
                )
            )
    return found, left_out


def pareto_plot(summary: RunSummary) -> list[Plot]:
    """One run's picture for its page; nothing when no artifact has the figures."""
    from matplotlib import rc_context

    with rc_context({"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "datk", "svg.fonttype": "path"}):
        figure, left_out = pareto_figure([summary])
        if figure is None:
            return []
        title = "Pareto front over resolution and precision; the line is what nothing else beats"
        return [Plot(title, svg_uri(figure), "Scatter plots of bench accuracy with the Pareto front", tuple(left_out))]


def draw_pareto(summaries: Sequence[RunSummary], path: Path) -> list[str]:
    """Write the picture of one or several runs; its format follows the file's ending. Returns what is not drawn.

    Raises UsageError for another ending than ENDINGS, or when no artifact has both figures.
    """
    if path.suffix not in ENDINGS:
        raise UsageError(f"--pareto {path}: expected a name that ends in {', '.join(ENDINGS)}")
    figure, left_out = pareto_figure(summaries)
    if figure is None:
        raise UsageError(
            "no artifact has both an accuracy and a size or latency: nothing to draw",
            hint="`datk run RECIPE` measures them",
        )
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=150, format=path.suffix[1:])
    return left_out


def pareto_figure(summaries: Sequence[RunSummary]) -> tuple[Figure | None, list[str]]:
    """(figure with one panel an axis of cost, names that are on neither); None when there is no point at all."""
    from matplotlib.figure import Figure

    panels = [(label, *points_of(summaries, metric, divisor)) for metric, label, divisor in AXES]
    drawn = [(label, points) for label, points, _ in panels if points]
    lacking = [set(out) for _, _, out in panels]
    nowhere = sorted(set.intersection(*lacking))
    if not drawn:
        return None, nowhere
    figure = Figure(figsize=(5.6 * len(drawn), 4.2), layout="constrained")
    colours = list(dict.fromkeys((p.model, p.bucket) for _, points in drawn for p in points))
    markers = list(dict.fromkeys((p.target, p.precision) for _, points in drawn for p in points))
    for place, (label, points) in enumerate(drawn):
        axes = figure.add_subplot(1, len(drawn), place + 1)
        _panel(axes, points, colours, markers)
        axes.set_xlabel(label)
        axes.set_ylabel("bench, % of pairs")
        if place == len(drawn) - 1:
            axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, nowhere


def _panel(axes: Axes, points: Sequence[Point], colours: list[tuple[str, str]], markers: list[tuple[str, str]]) -> None:
    best = front(points)
    axes.step([p.cost for p in best], [p.gain for p in best], where="post", color="#555", linewidth=1, label="front")
    for p in points:
        colour = COLOURS[colours.index((p.model, p.bucket)) % len(COLOURS)]
        axes.plot(
            p.cost,
            p.gain,
            linestyle="none",
            marker=MARKERS[markers.index((p.target, p.precision)) % len(MARKERS)],
            color=colour,
            markerfacecolor=colour if p.passed else "white",
            markersize=8 if p in best else 6,
            label=p.name.replace("$", r"\$") + ("" if p.passed else " (not passed)"),
        )
    axes.set_xscale("log")
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.12)


def _value(artifact: Artifact, metric: str) -> float | None:
    found = artifact.metrics.get(metric)
    return found.value if found is not None else None
