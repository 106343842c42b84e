"""The test-resolution study as a picture: a benchmark's figure over the input size, one line a model."""

from __future__ import annotations

from pathlib import Path

from datk.artifact.files import atomic_path
from datk.errors import UsageError
from datk.evaluate.benchmarks.pairs import BenchResult
from datk.evaluate.comparison import figure
from datk.report.judged_file import JudgedFile

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
ENDINGS = (".svg", ".png", ".pdf")


def sizes_of(judged: JudgedFile) -> dict[str, list[tuple[str, float, tuple[float, float] | None]]]:
    """Model -> (size, figure, 95 % interval of an accuracy) in the order scored. Rows without a size are left out."""
    lines: dict[str, list[tuple[str, float, tuple[float, float] | None]]] = {}
    for row in judged.rows:
        if row.size is None:
            continue
        result = row.result
        interval = None
        if isinstance(result, BenchResult):
            interval = (100 * result.overall.low, 100 * result.overall.high)
        lines.setdefault(row.name.rpartition("@")[0] or row.name, []).append(
            (row.size, figure(result, row.metric), interval)
        )
    return lines


def draw_sizes(judged: JudgedFile, path: Path) -> None:
    """Write the picture; its format follows the file's ending. Raises UsageError for another ending than ENDINGS."""
    if path.suffix not in ENDINGS:
        raise UsageError(f"--picture {path}: expected a name that ends in {', '.join(ENDINGS)}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.add_subplot()
    lines = sizes_of(judged)
    ticks = list(dict.fromkeys(size for points in lines.values() for size, _, _ in points))
    for number, (name, points) in enumerate(lines.items()):
        at = [ticks.index(size) for size, _, _ in points]
        values = [value for _, value, _ in points]
        colour = _COLOURS[number % len(_COLOURS)]
        spread = [
            [value - interval[0] if interval else 0 for _, value, interval in points],
            [interval[1] - value if interval else 0 for _, value, interval in points],
        ]
        axes.errorbar(at, values, yerr=spread, marker="o", capsize=3, color=colour, label=name.replace("$", r"\$"))
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel("input size, pixels (short side, or height x width)")
    axes.set_ylabel(f"{judged.bench}: {judged.rows[0].metric}" + (" %" if judged.rows[0].pairs else ""))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    with atomic_path(path) as part:
        drawn.savefig(part, dpi=150, format=path.suffix[1:])
