"""When latency gates, and when it is only told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datk.evaluate.permutation import paired_slowdown
from datk.farm.inventory import Device, Limits
from datk.farm.job import Job
from datk.pipeline.farm.figures import figures_of, throttling

from .conftest import make_job


def result(job: Job, ours: np.ndarray, base: np.ndarray, **more: Any) -> Any:
    from datk.farm.intake import DeviceResult

    def part(role: str, rounds: np.ndarray) -> dict[str, Any]:
        times = [[(0.1, float(t) - 0.2, 0.1)] * job.timing.runs for t in rounds]
        placement = {"delegated": 5, "fallback": 2, "fallback_ops": ["CAST", "PAD"]}
        figures = {"load_ms": 20.0, "first_run_ms": 9.0, "times_ms": times, "placement": placement}
        return {"role": role, "sha256": "0" * 64, "no_placement": None, **figures}

    work = {
        "runtime": "onnxruntime 1",
        "parts": [part("candidate", ours), part("baseline", base)],
        "predictions": {"sha256": "0" * 64, "shape": (3, 14, 28), "scale": [1.0] * 3, "shift": [0.0] * 3}
        | {"float32_sha256": "0" * 64},
        "sensors_before": {},
        "sensors_after": {},
        "memory": {"peak_bytes": 50_000_000},
    } | more
    return DeviceResult.model_validate(
        {"schema_version": 1, "job": job.key[:16], "outcome": "ok", "error": None, "exit_code": 0, "work": work}
        | {"device": {}, "log": "", "wall_s": 1.0}
    )


def job_on(tmp_path: Path, rounds: int = 10, **device: Any) -> Job:
    values = {"name": "board", "kind": "local", "controlled": True} | device
    job = make_job(tmp_path, Device.model_validate(values), baseline=True)
    return job.model_copy(update={"timing": job.timing.model_copy(update={"rounds": rounds})})


RNG = np.random.default_rng(0)
BASE = 50 * np.exp(RNG.normal(0, 0.02, 10))


@pytest.mark.parametrize(("factor", "status"), [(1.3, "failed"), (1.0, "passed"), (0.7, "passed"), (1.04, "passed")])
def test_a_controlled_device_gates_latency_by_the_paired_test(tmp_path: Path, factor: float, status: str) -> None:
    job = job_on(tmp_path)
    ours = factor * BASE * np.exp(RNG.normal(0, 0.01, 10))
    metrics, checks = figures_of(job, result(job, ours, BASE), "measured")
    assert checks["latency"]["status"] == status
    ratio = metrics["latency_ratio_vs_baseline"]
    assert ratio.value == pytest.approx(factor, rel=0.02)
    assert ratio.interval95 is not None and ratio.interval95[0] <= ratio.value <= ratio.interval95[1]


def test_any_other_device_records_the_same_slowdown_and_gates_nothing(tmp_path: Path) -> None:
    job = job_on(tmp_path, controlled=False)
    _, checks = figures_of(job, result(job, 2 * BASE, BASE), "measured")
    assert checks["latency"]["status"] == "not_measured" and "not a controlled device" in checks["latency"]["detail"]


def test_too_few_rounds_gate_nothing(tmp_path: Path) -> None:
    job = job_on(tmp_path, rounds=4)
    metrics, checks = figures_of(job, result(job, 2 * BASE[:4], BASE[:4]), "measured")
    assert checks["latency"]["status"] == "not_measured"
    assert metrics["latency_ratio_vs_baseline"].not_measured == "4 rounds, at least 5 are needed"


def test_a_device_that_throttles_is_noticed_and_gates_no_latency(tmp_path: Path) -> None:
    job = job_on(tmp_path)
    hot = BASE * np.linspace(1, 1.5, 10)
    told = result(job, 2 * hot, hot)
    assert "longer than the first" in str(throttling(told))
    _, checks = figures_of(job, told, "measured")
    assert checks["latency"]["status"] == "not_measured" and "throttled" in checks["latency"]["detail"]
    counted = result(job, BASE, BASE, sensors_before={"throttle_count": 1}, sensors_after={"throttle_count": 4})
    assert throttling(counted) == "the processor throttled 3 times"
    assert throttling(result(job, BASE, BASE)) is None


@pytest.mark.parametrize("figures", ["emulated", "simulated"])
def test_no_time_or_memory_of_what_is_no_device_is_ever_a_figure(tmp_path: Path, figures: Any) -> None:
    job = job_on(tmp_path, controlled=False)
    metrics, checks = figures_of(job, result(job, BASE, BASE), figures)
    assert {n for n, m in metrics.items() if m.value is not None} == {"size_bytes", "fallback_ops"}
    assert checks["latency"]["status"] == "not_measured"


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"max_size_bytes": 10}, "size"),
        ({"max_load_ms": 5}, "load time"),
        ({"max_fallback_ops": 1}, "fallback operators"),
        ({"max_peak_bytes": 1000}, "peak memory"),
    ],
)
def test_size_load_placement_and_memory_gate_on_any_device(tmp_path: Path, limits: Any, name: str) -> None:
    job = job_on(tmp_path, controlled=False, limits=Limits(**limits))
    _, checks = figures_of(job, result(job, BASE, BASE), "measured")
    assert checks[name]["status"] == "failed"
    wide = job_on(tmp_path, controlled=False, limits=Limits(**dict.fromkeys(limits, 10**9)))
    assert figures_of(wide, result(wide, BASE, BASE), "measured")[1][name]["status"] == "passed"


def test_another_power_mode_than_the_inventorys_fails(tmp_path: Path) -> None:
    job = job_on(tmp_path, power_mode="15W")
    _, checks = figures_of(job, result(job, BASE, BASE, sensors_after={"power_mode": "MAXN"}), "measured")
    assert checks["power mode"]["status"] == "failed"


def test_the_permutation_test_agrees_with_scipys() -> None:
    from scipy.stats import permutation_test

    for n in (6, 10):
        base = 50 * np.exp(RNG.normal(0, 0.05, n))
        ours = base * np.exp(RNG.normal(0.02, 0.05, n))
        logs = (np.log(ours), np.log(base))
        theirs = permutation_test(
            logs, lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", alternative="greater",
            vectorized=True, n_resamples=np.inf,
        )  # fmt: skip
        assert paired_slowdown(ours, base).p_slower == pytest.approx(theirs.pvalue, abs=1e-12)


def test_many_rounds_are_drawn_and_a_shift_of_nothing_is_rarely_significant() -> None:
    drawn = paired_slowdown(np.full(40, 2.0), np.full(40, 1.0))
    assert not drawn.exact and drawn.p_slower == pytest.approx(1 / 20_001)
    base = np.exp(RNG.normal(0, 0.1, (200, 10)))
    ours = np.exp(RNG.normal(0, 0.1, (200, 10)))
    false = sum(paired_slowdown(a, b).p_slower < 0.05 for a, b in zip(ours, base, strict=True))
    assert false <= 20
    for bad in (np.ones(4), np.array([1, 2, 3, 4, 0.0]), np.array([1, 2, 3, 4, np.nan])):
        with pytest.raises(ValueError, match=r"rounds|times"):
            paired_slowdown(bad, np.ones(len(bad)))
