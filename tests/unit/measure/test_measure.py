"""Timings, memory and device facts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datk.errors import UsageError
from datk.measure.device import host_info, library_versions, usable_cores
from datk.measure.memory import resident_bytes
from datk.measure.timing import Patience, interleaved_times, latency_from_times, measure_latency


def test_warm_up_calls_are_not_timed() -> None:
    calls: list[float] = []

    def slow_at_first() -> None:
        calls.append(time.perf_counter())
        time.sleep(0.05 if len(calls) <= 2 else 0.001)

    latency = measure_latency(slow_at_first, warmup=2, runs=5)
    assert len(calls) == 7
    assert latency.n == 5 and latency.warmup == 2
    assert latency.p50_ms < 45


def test_percentiles_agree_with_numpy() -> None:
    times = list(np.random.default_rng(0).random(37) * 10)
    latency = latency_from_times(times, warmup=0)
    for share, value in ((50, latency.p50_ms), (90, latency.p90_ms), (95, latency.p95_ms), (99, latency.p99_ms)):
        assert value == pytest.approx(np.percentile(times, share))
    assert latency.min_ms <= latency.p50_ms <= latency.p90_ms <= latency.p99_ms <= latency.max_ms


def test_one_run_is_its_own_median() -> None:
    assert latency_from_times([3.0], warmup=1).to_dict()["p50_ms"] == 3.0


def test_synchronise_is_inside_the_clock() -> None:
    latency = measure_latency(lambda: None, warmup=0, runs=2, synchronise=lambda: time.sleep(0.01))
    assert latency.min_ms >= 9


def test_no_runs_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="at least 1 run"):
        measure_latency(lambda: None, warmup=0, runs=0)
    with pytest.raises(UsageError, match="no timed runs"):
        latency_from_times([], warmup=0)


def test_slow_functions_are_timed_in_fewer_rounds_and_fast_ones_in_all() -> None:
    slow = interleaved_times([lambda: time.sleep(0.02)] * 2, warmup=1, runs=9, patience=Patience(seconds=0.1, least=3))
    assert [len(times) for times in slow] == [3, 3]
    fast = interleaved_times([lambda: None], warmup=1, runs=9, patience=Patience(seconds=5.0, least=3))
    assert [len(times) for times in fast] == [9]


WATCH = """
import time
import numpy as np
from datk.measure.memory import available_bytes, peak_resident_bytes, watch_memory
with watch_memory(0.001) as peak:
    block = np.ones(60_000_000, np.uint8)
    time.sleep(0.3)
    del block
assert 50_000_000 < peak.growth_bytes < 300_000_000, peak
assert peak_resident_bytes() >= peak.peak_bytes - 20_000_000
assert available_bytes() > 0
"""


def test_watched_block_shows_the_memory_it_needed() -> None:
    if resident_bytes() is None:
        pytest.skip("this system has no /proc/self/status")
    # In a process of its own: here an allocator may hand out memory that the suite freed before, and nothing grows.
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "toolkit")}
    done = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_host_info_is_json_and_names_no_user_or_machine() -> None:
    info = host_info()
    assert json.loads(json.dumps(info)) == info
    assert set(info) == {"os", "python", "machine", "cpu", "cores", "memory_bytes", "isa", "gpu"}
    assert info["cores"] == usable_cores() >= 1
    assert info["os"] and info["python"]


def test_library_versions_import_nothing_and_tell_what_is_absent() -> None:
    versions = library_versions(("numpy", "no-such-distribution"))
    assert versions == {"numpy": np.__version__, "no-such-distribution": None}
