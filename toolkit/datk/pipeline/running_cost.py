"""What running one artifact needs: peak memory and time by kind of operator, in a fresh process of its own."""

from __future__ import annotations

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datk.artifact.manifest import Metric
from datk.depth.io_spec import Contract
from datk.errors import DatkError
from datk.measure.memory import forget_peak, peak_resident_bytes, resident_bytes
from datk.measure.worker_process import end_with_parent
from datk.targets.base import Target

PREDICTIONS = 3
"""Before the peak is read: runtimes allocate their arena at the first."""
PROFILED_RUNS = 5


@dataclass(frozen=True)
class RunningCost:
    """metrics: peak_memory_bytes, float_time_share and convert_time_share, each a figure or the reason why not."""

    metrics: dict[str, Metric]
    op_ms: dict[str, float] = field(default_factory=dict)
    """Milliseconds a run by operator, where the runtime tells."""


@dataclass(frozen=True)
class _Said:
    memory: int | None
    shares: dict[str, float]
    op_ms: dict[str, float]
    problem: str = ""


def running_cost(target: Target, artifact: Path, contract: Contract, image: NDArray[np.uint8]) -> RunningCost:
    """Open the artifact as an app would, in a process that has run nothing else, and run it on `image`.

    Memory is what the process grew by at its peak, the runtime's own libraries included, over what Python and datk took
    before. A process that dies is a not-measured record, not an error: the artifact was judged elsewhere.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_begin) as pool:
        try:
            said = pool.submit(_measure, target, artifact, contract, image).result()
        except BrokenProcessPool:
            return without("the process that ran it alone ended before it answered")
    if said.problem:
        return without(said.problem)
    memory = Metric(
        value=said.memory,
        unit="bytes",
        n=1 if said.memory else None,
        higher_is_better=False,
        not_measured=None if said.memory else "this system does not tell a process's peak memory",
    )
    return RunningCost({"peak_memory_bytes": memory, **_shares(said.shares, target.no_profile)}, said.op_ms)


def without(reason: str) -> RunningCost:
    """Nothing measured, and why."""
    memory = Metric(value=None, unit="bytes", not_measured=reason)
    return RunningCost({"peak_memory_bytes": memory, **_shares({}, reason)})


def _shares(shares: dict[str, float], reason: str) -> dict[str, Metric]:
    return {
        f"{kind}_time_share": Metric(value=shares[kind], unit="1", n=PROFILED_RUNS, higher_is_better=False)
        if kind in shares
        else Metric(value=None, unit="1", not_measured=reason)
        for kind in ("float", "convert")
    }


def _begin() -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears Ctrl-C and ends this one


def _measure(target: Target, artifact: Path, contract: Contract, image: NDArray[np.uint8]) -> _Said:
    """In the process of its own."""
    try:
        target.load(target.latency_runner or target.runner or "")  # datk's own imports come first
        forget_peak()
        before = resident_bytes()
        runner = target.open_for_latency(artifact, contract)
        for _ in range(PREDICTIONS):
            runner.predict(image)
        peak = peak_resident_bytes()
        runner.close()
        memory = peak - before if peak is not None and before is not None else None
        if target.profiler is None:
            return _Said(memory, {}, {})
        times = target.load(target.profiler)(artifact, contract, image, PROFILED_RUNS)
        return _Said(memory, {kind: times.share(kind) for kind in ("float", "convert")}, dict(times.by_op))
    except DatkError as error:
        return _Said(None, {}, {}, problem=error.message)
