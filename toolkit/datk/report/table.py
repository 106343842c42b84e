"""The verdict table: one row an artifact, one wording for the terminal, the Markdown and the page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from datk.artifact.manifest import Metric
from datk.report.summary import Artifact, RunSummary, VerdictStatus

NOT_MEASURED = "not measured"
NOT_RECORDED = "not recorded by this run"


def format_bytes(count: float) -> str:
    """12.3 MB, 840 kB, 12 B (powers of 1000)."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= scale:
            return f"{count / scale:.3g} {unit}" if abs(count) < 1000 * scale else f"{count / scale:.0f} {unit}"
    return f"{count:.0f} B"


def format_duration(seconds: float | None) -> str:
    """1 h 02 min, 3 min 20 s, 4.1 s."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def never_rounded_up(value: float, digits: int = 5) -> str:
    """A correlation cut, not rounded: 0.999996 must not read as 1.00000."""
    scale = 10**digits
    return f"{math.floor(value * scale + 1e-9) / scale:.{digits}f}"


def _significant(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"


@dataclass(frozen=True)
class Column:
    """One figure of the table."""

    metric: str
    heading: str
    meaning: str
    write: Callable[[float], str]


COLUMNS = (
    Column(
        "correlation_vs_float_median", "r median", "correlation with the float student, median image", never_rounded_up
    ),
    Column(
        "correlation_vs_float_worst", "r worst", "correlation with the float student, worst image", never_rounded_up
    ),
    Column(
        "abs_rel_vs_float", "AbsRel", "mean |error| / value against the float student after scale-shift", _significant
    ),
    Column(
        "delta1_vs_float",
        "δ1",
        "share of pixels within 1.25x of the float student after scale-shift",
        never_rounded_up,
    ),
    Column(
        "ordinal_vs_float",
        "ordinal",
        "share of point pairs in the same order as in the float student",
        never_rounded_up,
    ),
    Column(
        "correlation_vs_teacher_median", "r teacher", "correlation with the teacher, median image", never_rounded_up
    ),
    Column(
        "bench_accuracy",
        "bench %",
        "the bench: pairs ordered rightly, with the 95 % interval",
        lambda value: f"{value:.1f}",
    ),
    Column(
        "bench_drop_pp",
        "drop pp",
        "points lost on the bench against the float student, same pairs; negative means gained",
        lambda value: f"{value:+.2f}",
    ),
    Column("size_bytes", "size", "bytes of the artifact", format_bytes),
    Column("latency_p50_ms", "p50 ms", "median latency by the runner named under 'judged by'", lambda v: f"{v:.1f}"),
    Column(
        "latency_ratio_vs_torch",
        "x torch",
        "latency divided by the float net's in torch, same machine, one run",
        lambda value: f"{value:.2f}",
    ),
)

LABELS = {
    "torch-cpu": "PyTorch on this machine's CPU",
    "onnxruntime-cpu": "ONNX Runtime on this machine's CPU, running the very file",
    "onnxruntime-cpu-qdq-in-float": (
        "ONNX Runtime on this machine's CPU, running the very file with its integer kernels off: rounding as stored, "
        "arithmetic in float"
    ),
    "litert-cpu": "the LiteRT runtime on this machine's CPU, running the very file; not a phone",
    "executorch-cpu": "ExecuTorch's runtime with XNNPACK on this machine's CPU, running the very file; not a phone",
    "coreml": "Core ML on this Mac",
    "coreml-reference": "datk's evaluator of the saved package; not Core ML, not a device",
    "tensorrt-rtx-gpu": "NVIDIA TensorRT-RTX on this machine's GPU, running the very engine",
    "tensorrt-rtx-build": "parsed and built by NVIDIA TensorRT-RTX without a GPU; not run, and no Jetson",
}
"""What a runner's label means; reports print it so that nobody takes a reference evaluator for a device."""
FIGURES = {
    "measured": "a device of the farm: its maps were scored on the host, its times are by its own clock",
    "emulated": "an emulated processor of the farm: the maps are its own, there is no device's latency",
    "simulated": "no device at all: nothing was computed",
}
"""What a farm label means, by what its device's figures are worth."""


@dataclass(frozen=True)
class Cell:
    """A figure as text; `note` is the number of the footnote that says why there is none."""

    text: str
    note: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """One artifact."""

    artifact: str
    judged_by: str
    verdict: VerdictStatus
    reasons: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class VerdictTable:
    """headings: one per cell of a row, after artifact, judged by and verdict. notes[i] is footnote i + 1."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())
    labels: tuple[tuple[str, str], ...] = field(default=())
    """(label, what it means) for every label in the table."""


def _figure(column: Column, metric: Metric | None, number: Callable[[str], int]) -> Cell:
    if metric is None:
        return Cell("–", number(NOT_RECORDED))
    if metric.value is None:
        return Cell(NOT_MEASURED, number(f"{column.heading}: {metric.not_measured}"))
    detail = ""
    if metric.interval95:
        detail = f"[{metric.interval95[0]:.1f}, {metric.interval95[1]:.1f}]"
    return Cell(column.write(metric.value), detail=detail)


def verdict_table(summary: RunSummary) -> VerdictTable:
    """The float student first, as the reference, then every artifact in order of its name."""
    notes: list[str] = []

    def number(reason: str) -> int:
        if reason not in notes:
            notes.append(reason)
        return notes.index(reason) + 1

    def blank(artifact: Artifact, column: Column) -> bool:
        is_reference = artifact.id == "student" and column.metric not in artifact.metrics
        return is_reference or (artifact.verdict == "not validated" and not artifact.metrics)

    def row(artifact: Artifact) -> Row:
        cells = tuple(
            Cell("–") if blank(artifact, column) else _figure(column, artifact.metrics.get(column.metric), number)
            for column in COLUMNS
        )
        name = "student (float)" if artifact.id == "student" else f"{artifact.target} {artifact.precision}"
        name += f" @ {artifact.facts['device']}" if "device" in artifact.facts else ""
        return Row(name, artifact.judged_by or "nobody yet", artifact.verdict, tuple(artifact.reasons), cells)

    artifacts = [*([summary.student] if summary.student else [])]
    for artifact in summary.artifacts:  # each beside itself on the devices
        artifacts += [artifact, *[d for d in summary.on_devices if d.id == artifact.id]]
    used = dict.fromkeys(artifact.judged_by for artifact in artifacts if artifact.judged_by)
    labels = {str(d.judged_by): FIGURES[d.facts["figures"]] for d in summary.on_devices} | LABELS
    return VerdictTable(
        headings=tuple(column.heading for column in COLUMNS),
        rows=tuple(row(artifact) for artifact in artifacts),
        notes=tuple(notes),
        labels=tuple((label, labels.get(label, "a runner's own label; see its target's README")) for label in used),
    )


def headline(summary: RunSummary) -> str:
    """The result in one sentence."""
    total = len(summary.artifacts)
    if not total:
        return "No artifact has been exported in this run yet."
    parts = [f"{summary.count('passed')} of {total} artifacts passed every gate"]
    if rejected := summary.count("rejected"):
        parts.append(f"{rejected} rejected")
    if unseen := summary.count("unverified"):
        parts.append(f"{unseen} unverified, since this machine cannot run {'it' if unseen == 1 else 'them'}")
    if waiting := summary.count("not validated"):
        parts.append(f"{waiting} not validated")
    if summary.on_devices:
        passed = sum(d.verdict == "passed" for d in summary.on_devices)
        parts.append(f"{passed} of {len(summary.on_devices)} passed on devices of the farm")
    return "; ".join(parts) + "."


def format_metric(metric: Metric) -> str:
    """A stage's figure with unit, interval and sample count, or why there is none."""
    if metric.value is None:
        return f"{NOT_MEASURED}: {metric.not_measured}"
    unit = "" if metric.unit == "1" else metric.unit
    if unit in ("bytes", "B"):
        text = format_bytes(metric.value)
    elif unit == "s":
        text = format_duration(metric.value)
    else:
        text = f"{metric.value:.5g}{' ' + unit if unit else ''}"
    if metric.interval95:
        text += f" [{metric.interval95[0]:.4g}, {metric.interval95[1]:.4g}]"
    return text + (f" (n={metric.n})" if metric.n is not None else "")
