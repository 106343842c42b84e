"""What to ship: one sentence a target, and under it every precision's figures against the base."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from datk.artifact.manifest import Metric
from datk.artifact.promotion import Promoted
from datk.evaluate.target_verdict import PrecisionVerdict, TargetVerdict
from datk.evaluate.verdict_rule import DEFAULT
from datk.evaluate.verdict_statistics import Change
from datk.report.seeds import SeedsSaid
from datk.report.table import Cell, format_bytes

COLUMNS = (
    (
        "speed",
        "times as fast as the base: ratio of medians in interleaved runs, 95 % interval by bootstrap over rounds",
    ),
    ("smaller", "the base's bytes over its own"),
    ("bench pt", "points gained on the bench over the base, same pairs; 95 % interval over images, McNemar's p"),
    ("AbsRel", "mean error a photograph minus the base's, against the teacher (or the float net); interval and p"),
    ("edges", "boundary F1 minus the base's, in points, against the same maps; interval and p"),
    ("recall", "boundary recall: share of the teacher's (or the float net's) depth edges that are there"),
    ("p50 / p90 ms", "of the interleaved runs"),
    ("memory", "what a fresh process grew by at its peak when it ran this alone, the runtime's libraries included"),
    ("float %", "share of the operators' time spent on floats, conversions to and from integers not among them"),
)
RULE = (
    "The base is the float artifact that passed its gates: the smallest, unless another is surely "
    f"{DEFAULT.min_speedup:g} times as fast. A weaker precision is shipped when the interval of its speed begins at "
    f"{DEFAULT.min_speedup:g} or above, or when it is {DEFAULT.min_shrink:g} times smaller and that interval begins "
    f"at {DEFAULT.not_slower:g} or above; and it loses at most {DEFAULT.max_loss_pp:g} points on the bench, "
    f"{DEFAULT.max_error_rise:g} AbsRel and {100 * DEFAULT.max_edge_loss:g} points of boundary F1."
)
"""The thresholds in words."""


_Note = Callable[[str], Cell]
_Write = Callable[[float], str]


@dataclass(frozen=True)
class ShipRow:
    """One precision."""

    precision: str
    status: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ShipTarget:
    """One target at one bucket."""

    headline: str
    rows: tuple[ShipRow, ...]
    seeds: str = ""
    """How much its int8 depends on the calibration draw; empty where nothing was quantised."""


@dataclass(frozen=True)
class ShipTable:
    """headings: one per cell. notes[i] is footnote i + 1."""

    headings: tuple[str, ...]
    targets: tuple[ShipTarget, ...]
    notes: tuple[str, ...]


def ship_table(
    verdicts: Sequence[TargetVerdict], promoted: Sequence[Promoted] = (), seeds: Sequence[SeedsSaid] = ()
) -> ShipTable:
    """promoted: what the run stands behind; who overrode a verdict is told with it. seeds: of its quantised targets.

    Every target's sentence and figures; what was not measured has a footnote with the reason."""
    notes: list[str] = []

    def note(reason: str) -> Cell:
        if reason not in notes:
            notes.append(reason)
        return Cell("–", notes.index(reason) + 1)

    return ShipTable(
        headings=tuple(heading for heading, _ in COLUMNS),
        targets=tuple(
            ShipTarget(
                _headline(v, promoted, seeds),
                tuple(ShipRow(r.precision, r.status, _cells(r, v, note)) for r in v.rows),
                seeds=next((s.said for s in seeds if s.place == (v.target, v.input_size)), ""),
            )
            for v in verdicts
        ),
        notes=tuple(notes),
    )


def _headline(verdict: TargetVerdict, promoted: Sequence[Promoted], seeds: Sequence[SeedsSaid]) -> str:
    place = (verdict.target, verdict.input_size)
    override = next((p for p in promoted if (p.target, p.input_size) == place and p.by is not None), None)
    warning = next((f"; {s.warning}" for s in seeds if s.place == place and s.warning), "")
    if override is None:
        return verdict.headline + warning
    return f"{verdict.headline}{warning}; overridden by {override.by}: {override.precision} is promoted, {override.why}"


def _cells(row: PrecisionVerdict, verdict: TargetVerdict, note: _Note) -> tuple[Cell, ...]:
    compared = row.compared
    if compared is None:
        why = f"not run: {row.words}" if row.status == "unverified" else "not compared: it or every float one failed"
        against = [Cell("1", detail="base") if row.precision == verdict.base else note(why) for _ in range(2)]
        against += [Cell("base") if row.precision == verdict.base else note(why) for _ in range(3)]
    else:
        speed = compared.speed
        against = [
            Cell(f"{speed.value:.2f}", detail=f"[{speed.low:.2f}, {speed.high:.2f}] n={speed.rounds}")
            if speed
            else note(f"speed: {compared.no_speed}"),
            Cell(f"{compared.smaller:.2f}"),
            _change(compared.accuracy, 1, ".1f", note),
            _change(compared.dense, 1, ".4f", note),
            _change(compared.edges, 100, ".1f", note),
        ]
    recall = row.metrics.get("boundary_recall_vs_teacher") or row.metrics.get("boundary_recall_vs_float")
    return (
        *against,
        _figure(recall, "recall", lambda v: f"{v:.3f}", note),
        _latency(row.metrics, note),
        _figure(row.metrics.get("peak_memory_bytes"), "memory", format_bytes, note),
        _figure(row.metrics.get("float_time_share"), "float %", lambda v: f"{math.floor(1000 * v) / 10:.1f}", note),
    )


def _change(change: Change | None, scale: float, form: str, note: _Note) -> Cell:
    if change is None:
        return note("no photograph on which both have the figure")
    low, high = scale * change.low, scale * change.high
    return Cell(f"{scale * change.value:+{form}}", detail=f"[{low:+{form}}, {high:+{form}}] p {change.p:.2g}")


def _figure(metric: Metric | None, heading: str, write: _Write, note: _Note) -> Cell:
    if metric is None:
        return note(f"{heading}: not recorded by this run")
    if metric.value is None:
        return note(f"{heading}: {metric.not_measured}")
    return Cell(write(metric.value))


def _latency(metrics: dict[str, Metric], note: _Note) -> Cell:
    p50, p90 = metrics.get("latency_p50_ms"), metrics.get("latency_p90_ms")
    if p50 is None or p90 is None or p50.value is None or p90.value is None:
        return _figure(p50, "latency", str, note)
    return Cell(f"{p50.value:.1f} / {p90.value:.1f}", detail=f"n={p50.n}")
