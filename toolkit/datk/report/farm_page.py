"""The farm's history as one offline page, as CSV, and one release against another."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from datk.artifact.manifest import Metric
from datk.report.build import environment
from datk.report.table import format_metric

COLUMNS = ("at", "run", "release", "git_commit", "device", "artifact", "sha256", "figures", "verdict")
TREND = (("bench_accuracy", "bench %"), ("latency_p50_ms", "p50 ms"), ("peak_memory_bytes", "peak bytes"))
COMPARED = (
    ("bench_accuracy", "bench %", "points"),
    ("correlation_vs_float_median", "r median", "difference"),
    ("latency_p50_ms", "p50 ms", "ratio"),
    ("load_ms", "load ms", "ratio"),
    ("peak_memory_bytes", "peak bytes", "ratio"),
    ("size_bytes", "size", "ratio"),
    ("fallback_ops", "fallback ops", "difference"),
)
"""What two releases are compared in: metric, heading, and how the change is written."""


@dataclass(frozen=True)
class Change:
    """One artifact on one device, in two releases. A side without a result is None."""

    device: str
    artifact: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def worse(self) -> str | None:
        """What got worse beyond doubt: a verdict that fell, or more operators left to the plain kernels."""
        if self.before is None or self.after is None:
            return None
        if self.before["verdict"] == "passed" and self.after["verdict"] == "rejected":
            return f"passed before, now rejected: {'; '.join(self.after['reasons'])}"
        old, new = (_value(side, "fallback_ops") for side in (self.before, self.after))
        if old is not None and new is not None and new > old:
            return f"{new:.0f} operators fall back, {old:.0f} before"
        return None

    def cells(self) -> list[str]:
        """One text per COMPARED metric: before, after and the change."""
        return [_change(self.before, self.after, name, how) for name, _, how in COMPARED]


def changes(rows: Sequence[dict[str, Any]], before: str, after: str) -> list[Change]:
    """The newest result of each artifact and device in two releases (or runs), side by side.

    rows: Store.history(), oldest first. before, after: a release's or a run's name.
    """
    sides: list[dict[tuple[str, str], dict[str, Any]]] = [{}, {}]
    for row in rows:
        for side, name in zip(sides, (before, after), strict=True):
            if name in (row["release"], row["run"]):
                side[(row["device"], row["artifact"])] = row
    return [Change(*key, sides[0].get(key), sides[1].get(key)) for key in sorted({*sides[0], *sides[1]})]


def newest_and_release_before(rows: Sequence[dict[str, Any]]) -> tuple[str, str | None]:
    """(release, else run, of the newest result; the last release whose results came before its first).

    rows: Store.history(), not empty.
    """
    names = [row["release"] or row["run"] for row in rows]
    earlier = [row["release"] for row in rows[: names.index(names[-1])] if row["release"]]
    return names[-1], earlier[-1] if earlier else None


def history_csv(rows: Sequence[dict[str, Any]]) -> str:
    """One line a result, one column a metric; empty where it was not measured. Cells never start a formula."""
    names = sorted({name for row in rows for name in row["metrics"]})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *names, "reasons"])
    for row in rows:
        values = [_value(row, name) for name in names]
        figures = ["" if v is None else repr(v) for v in values]
        writer.writerow([*[_cell(row[c]) for c in COLUMNS], *figures, _cell("; ".join(row["reasons"]))])
    return out.getvalue()


def dashboard(rows: Sequence[dict[str, Any]]) -> str:
    """The page: the newest result of every artifact and device, and their trends. No script, no link to anywhere."""
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        series.setdefault((row["device"], row["artifact"]), []).append(row)
    newest = [found[-1] for _, found in sorted(series.items())]
    plots = [(heading, _trend(series, name, heading)) for name, heading in TREND]
    return str(
        environment()
        .get_template("farm.html.j2")
        .render(
            newest=newest,
            trend=TREND,
            shown=lambda row, name: _shown(row, name),
            plots=[(heading, uri) for heading, uri in plots if uri is not None],
            results=len(rows),
            written_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def _trend(series: dict[tuple[str, str], list[dict[str, Any]]], name: str, heading: str) -> str | None:
    """An SVG data URI: one line an artifact and device, in the order results came; bands where there are any."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with rc_context({"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "datk", "svg.fonttype": "path"}):
        figure = Figure(figsize=(7, 3.2), layout="constrained")
        axes = figure.add_subplot()
        drawn = 0
        for (device, artifact), rows in sorted(series.items()):
            points = [(k, m) for k, r in enumerate(rows, start=1) if (m := _metric(r, name)) and m.value is not None]
            if not points:
                continue
            drawn += 1
            at, values = [k for k, _ in points], [float(m.value or 0.0) for _, m in points]
            label = f"{artifact} on {device}".replace("$", r"\$")
            (line,) = axes.plot(at, values, "o-", markersize=4, label=label)
            banded = [(k, m.interval95) for k, m in points if m.interval95]
            axes.vlines(
                [k for k, _ in banded],
                [b[0] for _, b in banded],
                [b[1] for _, b in banded],
                line.get_color(),
                alpha=0.4,
            )
        if not drawn:
            return None
        axes.set_xlabel("result, oldest first")
        axes.set_ylabel(heading)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        out = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()


def _metric(row: dict[str, Any], name: str) -> Metric | None:
    value = row["metrics"].get(name)
    return None if value is None else Metric.model_validate(value)


def _value(row: dict[str, Any], name: str) -> float | None:
    metric = _metric(row, name)
    return None if metric is None else metric.value


def _shown(row: dict[str, Any], name: str) -> str:
    metric = _metric(row, name)
    return "–" if metric is None else format_metric(metric)


def _change(before: dict[str, Any] | None, after: dict[str, Any] | None, name: str, how: str) -> str:
    old = None if before is None else _value(before, name)
    new = None if after is None else _value(after, name)
    if old is None or new is None:
        return f"{_number(old)} → {_number(new)}"
    if how == "ratio":
        return f"{_number(old)} → {_number(new)} ({new / old:.3f}x)" if old else f"{_number(old)} → {_number(new)}"
    return f"{_number(old)} → {_number(new)} ({new - old:+.4g})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"


def _cell(value: Any) -> str:
    text = str(value)
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text
