"""What a device's own figures say: latency with its band, load, memory, placement, throttling; and their gates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.artifact.manifest import Metric
from datk.evaluate.permutation import LEAST_ROUNDS, PairedSlowdown, paired_slowdown
from datk.farm.adapters.base import Figures
from datk.farm.intake import DeviceResult, PartFigures, Sensors
from datk.farm.job import Job
from datk.measure.timing import latency_from_times

SIGNIFICANT = 0.05
DRIFT = 0.10
"""Change of the baseline's (or the only artifact's) median from the first to the last third of the rounds."""
CLOCK_DROP = 0.10
NO_FIGURE = {
    "emulated": "emulated processor: no device's figure",
    "simulated": "simulated device: nothing was run",
}


def figures_of(job: Job, result: DeviceResult, figures: Figures) -> tuple[dict[str, Metric], dict[str, dict[str, Any]]]:
    """(metrics, checks). A device that is not measured yields not-measured records with the reason."""
    assert result.work is not None
    part = result.work.parts[0]
    size = job.candidate.bytes
    metrics = {"size_bytes": Metric(value=size, unit="bytes", n=1, higher_is_better=False)}
    metrics |= _times(part)
    metrics["load_ms"] = _ms(part.load_ms)
    metrics["first_run_ms"] = _ms(part.first_run_ms)
    peak = result.work.memory.peak_bytes or result.work.memory.child_bytes
    metrics["peak_memory_bytes"] = Metric(
        value=peak,
        unit="bytes",
        n=1 if peak else None,
        higher_is_better=False,
        not_measured=None if peak else "the device does not tell",
    )
    if part.benchmark is not None:
        metrics["benchmark_binary_mean_ms"] = _ms(part.benchmark.mean_ms)
    elif part.no_benchmark is not None:
        metrics["benchmark_binary_mean_ms"] = Metric(value=None, unit="ms", not_measured=part.no_benchmark)
    slowdown, why = _slowdown(job, result)
    metrics["latency_ratio_vs_baseline"] = (
        Metric(
            value=slowdown.ratio,
            unit="1",
            n=slowdown.rounds,
            higher_is_better=False,
            interval95=(slowdown.low, slowdown.high),
        )
        if slowdown
        else Metric(value=None, unit="1", not_measured=why)
    )
    metrics["fallback_ops"] = _fallback(part)
    if figures != "measured":
        kept = ("size_bytes", "fallback_ops")
        reason = NO_FIGURE[figures]
        metrics |= {
            k: Metric(value=None, unit=m.unit, not_measured=reason) for k, m in metrics.items() if k not in kept
        }
    return metrics, _checks(job, result, metrics, slowdown, figures)


def throttling(result: DeviceResult) -> str | None:
    """What speaks for a device that slowed down while it was measured, in words; None when nothing does."""
    assert result.work is not None
    before, after = result.work.sensors_before, result.work.sensors_after
    signs = []
    if (drift := _drift(result.work.parts[-1])) is not None and drift > DRIFT:
        signs.append(f"the last third of the rounds took {100 * drift:.0f} % longer than the first")
    if (count := (after.throttle_count or 0) - (before.throttle_count or 0)) > 0:
        signs.append(f"the processor throttled {count:.0f} times")
    low, high = _mean_clock(after), _mean_clock(before)
    if low is not None and high is not None and low < (1 - CLOCK_DROP) * high and drift is not None and drift > 0.03:
        signs.append(f"clocks fell from {high:.0f} to {low:.0f} MHz")
    return "; ".join(signs) or None


def round_medians(part: PartFigures) -> NDArray[np.float64]:
    """(rounds,) milliseconds: median over a round's runs of pre + infer + post."""
    return np.median(np.asarray(part.times_ms).sum(axis=2), axis=1)  # type: ignore[no-any-return]


def _times(part: PartFigures) -> dict[str, Metric]:
    times = np.asarray(part.times_ms).reshape(-1, 3)  # (runs, pre infer post)
    whole = latency_from_times([float(t) for t in times.sum(axis=1)], warmup=0)
    band = np.quantile(round_medians(part), [0.025, 0.975])
    out = {
        "latency_p50_ms": _ms(whole.p50_ms, whole.n, (float(band[0]), float(band[1]))),
        "latency_p90_ms": _ms(whole.p90_ms, whole.n),
        "latency_p99_ms": _ms(whole.p99_ms, whole.n),
    }
    for column, name in enumerate(("pre", "infer", "post")):
        out[f"{name}_p50_ms"] = _ms(float(np.median(times[:, column])), whole.n)
    return out


def _ms(value: float, n: int = 1, band: tuple[float, float] | None = None) -> Metric:
    return Metric(value=value, unit="ms", n=n, higher_is_better=False, interval95=band)


def _fallback(part: PartFigures) -> Metric:
    value = (part.placement or {}).get("fallback")
    if not isinstance(value, int):
        return Metric(value=None, unit="1", not_measured=part.no_placement or "the runtime does not tell")
    return Metric(value=value, unit="1", n=1, higher_is_better=False)


def _slowdown(job: Job, result: DeviceResult) -> tuple[PairedSlowdown | None, str]:
    assert result.work is not None
    parts = result.work.parts
    if len(parts) < 2:
        return None, "no baseline was run beside it"
    if job.timing.rounds < LEAST_ROUNDS:
        return None, f"{job.timing.rounds} rounds, at least {LEAST_ROUNDS} are needed"
    ours, base = round_medians(parts[0]), round_medians(parts[1])
    if not ((ours > 0).all() and (base > 0).all()):
        return None, "a round took no time by the device's clock"
    return paired_slowdown(ours, base, allowed=job.device.limits.max_slowdown), ""


def _drift(part: PartFigures) -> float | None:
    medians = round_medians(part)
    third = len(medians) // 3
    if third < 2 or (first := float(np.median(medians[:third]))) <= 0:
        return None
    return float(np.median(medians[-third:])) / first - 1


def _mean_clock(sensors: Sensors) -> float | None:
    values = [v for k, v in sensors.clocks_mhz.items() if not k.endswith(" max")]
    return float(np.mean(values)) if values else None


def _checks(
    job: Job, result: DeviceResult, metrics: dict[str, Metric], slowdown: PairedSlowdown | None, figures: Figures
) -> dict[str, dict[str, Any]]:
    limits = job.device.limits
    checks = {"load": _passed("loaded and ran on the device")}
    for name, metric, limit, unit in (
        ("size", "size_bytes", limits.max_size_bytes, "bytes"),
        ("load time", "load_ms", limits.max_load_ms, "ms"),
        ("fallback operators", "fallback_ops", limits.max_fallback_ops, ""),
        ("peak memory", "peak_memory_bytes", limits.max_peak_bytes, "bytes"),
    ):
        if limit is not None:
            checks[name] = _at_most(metrics[metric], limit, unit)
    checks["latency"] = _latency(job, result, slowdown, figures)
    mode = (result.work.sensors_after.power_mode if result.work else None) or None
    if job.device.power_mode is not None and mode is not None and mode != job.device.power_mode:
        checks["power mode"] = {
            "status": "failed",
            "detail": f"the device is in power mode {mode}, the inventory says {job.device.power_mode}",
        }
    return checks


def _at_most(metric: Metric, limit: float, unit: str) -> dict[str, Any]:
    if metric.value is None:
        return {"status": "not_measured", "detail": str(metric.not_measured)}
    ok = metric.value <= limit
    return {
        "status": "passed" if ok else "failed",
        "detail": f"{metric.value:,.6g} {unit}, at most {limit:,.6g} allowed".replace("  ", " "),
        "value": metric.value,
        "limit": limit,
    }


def _latency(job: Job, result: DeviceResult, slowdown: PairedSlowdown | None, figures: Figures) -> dict[str, Any]:
    """Gates on a controlled device alone; everywhere else it is told."""
    if figures != "measured":
        return {"status": "not_measured", "detail": NO_FIGURE[figures]}
    if slowdown is None:
        return {"status": "not_measured", "detail": "recorded, not gated: no baseline beside it"}
    told = (
        f"{slowdown.ratio:.3f} times the baseline (95 % {slowdown.low:.3f} to {slowdown.high:.3f}) over "
        f"{slowdown.rounds} interleaved rounds; p {slowdown.p_slower:.3g} for more than {slowdown.allowed:g} times"
    )
    figure = {"ratio": slowdown.ratio, "p_slower": slowdown.p_slower, "allowed": slowdown.allowed}
    if not job.device.controlled:
        return {"status": "not_measured", "detail": f"{told}; recorded, not gated: not a controlled device", **figure}
    if (signs := throttling(result)) is not None:
        return {"status": "not_measured", "detail": f"{told}; not gated: the device throttled ({signs})", **figure}
    status = "failed" if slowdown.p_slower < SIGNIFICANT and slowdown.ratio > slowdown.allowed else "passed"
    return {"status": status, "detail": told, **figure}


def _passed(detail: str) -> dict[str, Any]:
    return {"status": "passed", "detail": detail}
