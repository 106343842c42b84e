"""Measure one runner against its references: dense, ordinal, latency, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datk.artifact.files import atomic_path
from datk.artifact.manifest import Metric, Verdict
from datk.depth.preprocess import bucket_image, read_image
from datk.depth.runner import Runner
from datk.evaluate import benchmarks
from datk.evaluate.benchmarks.pairs import BenchResult, PairSet
from datk.evaluate.cached_runner import CachedRunner
from datk.evaluate.gates import Gates, default_gates, judge
from datk.evaluate.gates import unverified as unverified_verdict
from datk.evaluate.paired import PairedDrop, paired_drop
from datk.evaluate.parity import Parity, compare, compare_input_paths
from datk.measure.timing import Latency, Patience, measure_interleaved

if TYPE_CHECKING:
    from datk.evaluate.torch_runner import TorchRunner

SAMPLES = 6
"""Photographs whose maps are kept for the report's pictures."""
WARMUP = 3
DENSE = ("correlation_{}_median", "correlation_{}_worst", "abs_rel_{}", "delta1_{}", "ordinal_{}")
EDGES = ("boundary_f1_{}", "boundary_recall_{}")
TIMES = {"latency_p50_ms": "ms", "latency_p90_ms": "ms", "latency_ratio_vs_torch": "1"}

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every artifact of a call is measured on."""

    photos: Sequence[Path]
    bench: str
    pairs: PairSet
    max_drop_pp: float
    latency_runs: int
    allow_few: bool = False


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Latency: the artifact as an app would run it, and the float net in torch without any memory."""

    candidate: Runner
    reference: Runner


@dataclass(kw_only=True)
class Measured:
    """Figures for the manifest, details for details.json, verdict."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None


def open_bench(name: str, data: str | None) -> PairSet:
    """Load a benchmark and run its self-tests. Raises UsageError, DataError or EnvironmentLacks."""
    bench = benchmarks.get_pairs(name)
    return bench.load(Path(data) if data else None)


def measure(
    runner: Runner | None,
    setting: Setting,
    *,
    reference: Runner | None,
    clock: Clock | None,
    teacher: Runner | None,
    precision: str,
    checks: Mapping[str, Mapping[str, Any]],
    progress: Progress,
    no_clock: str = "",
    no_reference: str = "",
    no_teacher: str = "",
    scored: BenchResult | None = None,
    reference_scored: BenchResult | None = None,
) -> Measured:
    """Measure `runner`; judge it when there is a float reference at the same bucket.

    clock: what latency is measured on here; None where it is measured elsewhere, as a farm's is, or says nothing.
    no_clock / no_reference / no_teacher: the reason recorded where one is absent; empty = nothing is missing.
    scored, reference_scored: the bench results of both, when they are known already. runner may be None only when
    `scored` is given and there is neither reference nor teacher.
    """
    out = Measured()
    seen = (
        CachedRunner(runner) if runner is not None else None
    )  # both comparisons look at the same photographs; the bench, being large, is not kept
    parity = _parity(seen, reference, setting, "vs_float", no_reference, out, progress, edges=teacher is None)
    _parity(seen, teacher, setting, "vs_teacher", no_teacher, out, progress, edges=True)
    result = _bench(runner, scored, setting, out, progress)
    drop: PairedDrop | None = None
    if reference is not None:
        base = reference_scored or benchmarks.get_pairs(setting.bench).score(reference, setting.pairs)
        drop = paired_drop(result, base)
        out.details["paired_drop"] = drop.model_dump(mode="json")
        out.metrics["bench_drop_pp"] = Metric(
            value=drop.drop_points,
            unit="pp",
            n=drop.n,
            higher_is_better=False,
            interval95=(drop.drop_low, drop.drop_high),
        )
        if clock is not None:
            _latency(clock, setting, out)
        elif no_clock:
            out.metrics |= {n: Metric(value=None, unit=unit, not_measured=no_clock) for n, unit in TIMES.items()}
        assert parity is not None
        gates = _gates(precision, setting.max_drop_pp)
        verdict = judge(gates, parity, drop, checks=checks, allow_few=setting.allow_few)
        out.verdict = verdict.as_verdict()
        out.details["gates"] = [g.model_dump(mode="json") for g in verdict.gates]
    elif no_reference:
        out.metrics["bench_drop_pp"] = Metric(value=None, unit="pp", not_measured=no_reference)
    return out


def unmeasured(
    reason: str,
    *,
    precision: str,
    max_drop_pp: float,
    checks: Mapping[str, Mapping[str, Any]],
    has_teacher: bool,
    no_teacher: str = "",
) -> Measured:
    """What `measure` leaves of an artifact that this machine cannot run: every figure a record of the reason.

    checks: as `measure` takes them; a failed one rejects. no_teacher: the reason where there is no teacher anyway.
    """
    out = Measured()
    edges = "vs_teacher" if has_teacher else "vs_float"
    why = {"vs_float": reason, "vs_teacher": reason if has_teacher else no_teacher}
    for suffix in filter(why.get, why):
        for name in (*DENSE, *(EDGES if suffix == edges else ())):
            out.metrics[name.format(suffix)] = Metric(value=None, unit="1", not_measured=why[suffix])
    units = {"bench_accuracy": "%", "bench_drop_pp": "pp", **TIMES}
    out.metrics |= {name: Metric(value=None, unit=unit, not_measured=reason) for name, unit in units.items()}
    verdict = unverified_verdict(_gates(precision, max_drop_pp), reason, checks=checks)
    out.verdict = verdict.as_verdict()
    out.details = {"not_run": reason, "gates": [g.model_dump(mode="json") for g in verdict.gates]}
    return out


def _gates(precision: str, max_drop_pp: float) -> Gates:
    return default_gates(precision).model_copy(update={"max_drop_points": max_drop_pp})


def _parity(
    runner: Runner | None,
    other: Runner | None,
    setting: Setting,
    suffix: str,
    reason: str,
    out: Measured,
    progress: Progress,
    *,
    edges: bool,
) -> Parity | None:
    """edges: depth edges are compared with the teacher's, or with the float net's where there is no teacher."""
    if other is None or runner is None:
        for name in DENSE if reason else ():
            out.metrics[name.format(suffix)] = Metric(value=None, not_measured=reason)
        return None
    parity = compare(
        runner,
        other,
        setting.photos,
        edges=edges,
        progress=lambda d, t: progress(d, t, f"photographs, {suffix.replace('_', ' ')}"),
    )
    worst = parity.worst
    n = parity.n - len(parity.undefined)
    values = (
        (parity.median_correlation, True),
        (worst.correlation if worst else None, True),
        (parity.mean_abs_rel, False),
        (parity.mean_delta1, True),
        (parity.mean_ordinal, True),
    )
    for name, (value, higher) in zip(DENSE, values, strict=True):
        missing = None if value is not None else "undefined on every photograph"
        out.metrics[name.format(suffix)] = Metric(
            value=value, unit="1", n=n, higher_is_better=higher, not_measured=missing
        )
    if edges:
        seen = sum(image.boundary_f1 is not None for image in parity.images)
        for name, value in zip(EDGES, (parity.mean_boundary_f1, parity.mean_boundary_recall), strict=True):
            out.metrics[name.format(suffix)] = Metric(
                value=value,
                unit="1",
                n=seen,
                higher_is_better=True,
                not_measured=None if value is not None else "no photograph on which the reference has a depth edge",
            )
    out.details[f"parity_{suffix}"] = parity.model_dump(mode="json")
    return parity


def _bench(
    runner: Runner | None, scored: BenchResult | None, setting: Setting, out: Measured, progress: Progress
) -> BenchResult:
    if scored is None:
        assert runner is not None
        scored = benchmarks.get_pairs(setting.bench).score(
            runner, setting.pairs, progress=lambda d, t: progress(d, t, f"bench {setting.bench}")
        )
    result = scored
    overall = result.overall
    measured = overall.accuracy is not None
    out.metrics["bench_accuracy"] = Metric(
        value=100 * overall.accuracy if overall.accuracy is not None else None,
        unit="%",
        n=overall.n,
        higher_is_better=True,
        interval95=(100 * overall.low, 100 * overall.high) if measured else None,
        not_measured=None if measured else "no pair could be scored",
    )
    out.details["bench"] = result.model_dump(mode="json") | {"scenes": _scenes(result)}
    return result


def _scenes(result: BenchResult) -> dict[str, Any]:
    return {
        name: {
            "accuracy_percent": None if s.accuracy is None else 100 * s.accuracy,
            "n": s.n,
            "interval95": [100 * s.low, 100 * s.high],
        }
        for name, s in result.scenes.items()
    }


def _latency(clock: Clock, setting: Setting, out: Measured) -> None:
    """Interleaved with the float net in torch, on this machine: a ratio, not a device's figure."""
    image = bucket_image(read_image(setting.photos[0]), clock.candidate.input_size)
    ours, base = measure_interleaved(
        [lambda: clock.candidate.predict(image), lambda: clock.reference.predict(image)],
        warmup=WARMUP,
        runs=setting.latency_runs,
        patience=Patience(),
    )
    for name, latency in (("latency", ours), ("torch", base)):
        out.details[f"{name}_ms"] = latency.to_dict()
    out.metrics |= _latency_metrics(ours, base)


def _latency_metrics(ours: Latency, base: Latency) -> dict[str, Metric]:
    return {
        "latency_p50_ms": Metric(value=ours.p50_ms, unit="ms", n=ours.n, higher_is_better=False),
        "latency_p90_ms": Metric(value=ours.p90_ms, unit="ms", n=ours.n, higher_is_better=False),
        "latency_ratio_vs_torch": Metric(value=ours.p50_ms / base.p50_ms, unit="1", n=ours.n, higher_is_better=False),
    }


def save_samples(
    path: Path, runner: Runner, photos: Sequence[Path], *, reference: Runner | None, teacher: Runner | None
) -> None:
    """samples.npz: photograph at the bucket, prediction, float student and teacher for the report's pictures."""
    arrays: dict[str, Any] = {"names": np.array([p.name for p in photos[:SAMPLES]])}
    for i, photo in enumerate(photos[:SAMPLES]):
        image = bucket_image(read_image(photo), runner.input_size)
        arrays[f"photo_{i}"] = image
        arrays[f"prediction_{i}"] = runner.predict(image).astype(np.float32)
        if reference is not None:
            arrays[f"reference_{i}"] = reference.predict(image).astype(np.float32)
        if teacher is not None:
            arrays[f"teacher_{i}"] = teacher.predict(image).astype(np.float32)
    with atomic_path(path) as part:
        with part.open("wb") as handle:
            np.savez_compressed(handle, **arrays)


def input_path_distance(net: TorchRunner, photos: Sequence[Path]) -> Metric:
    """How far 8-bit bucket input moves the float net from float input at the same bucket: median of max|a-b|/max|b|."""
    parity = compare_input_paths(net, photos)
    errors = [i.max_error_rel for i in parity.images if i.max_error_rel is not None]
    if not errors:
        return Metric(value=None, not_measured="the net's maps are constant or not finite on every photograph")
    return Metric(value=float(np.median(errors)), unit="1", n=len(errors), higher_is_better=False)
