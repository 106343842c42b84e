"""Latency with warm-up, percentiles and the number of runs. Wall clock of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from datk.errors import UsageError


@dataclass(frozen=True)
class Latency:
    """Milliseconds a call, over `n` timed runs after `warmup` untimed ones."""

    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    min_ms: float
    max_ms: float
    n: int
    warmup: int

    def to_dict(self) -> dict[str, float | int]:
        """Flat figures for a manifest."""
        return dict(vars(self))


@dataclass(frozen=True)
class Patience:
    """A slow net's rounds differ little, in share of their time: after `seconds`, warm-up included, `least` rounds are
    enough."""

    seconds: float = 20.0
    least: int = 10

    def ended(self, rounds: int, seconds: float) -> bool:
        """Whether after so many timed rounds and seconds no more are timed."""
        return rounds >= self.least and seconds > self.seconds


def measure_latency(
    fn: Callable[[], Any], *, warmup: int, runs: int, synchronise: Callable[[], Any] | None = None
) -> Latency:
    """Time `fn()` `runs` times after `warmup` untimed calls.

    synchronise: called before the clock stops, for devices that work asynchronously. Raises UsageError when runs < 1 or
    warmup < 0. Percentiles interpolate linearly between runs; with few runs p99 is close to the maximum.
    """
    if runs < 1 or warmup < 0:
        raise UsageError(f"latency needs at least 1 run and 0 warm-up calls, got {runs} and {warmup}")
    for _ in range(warmup):
        fn()
    if synchronise is not None:
        synchronise()
    times_ms: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        fn()
        if synchronise is not None:
            synchronise()
        times_ms.append(1e3 * (time.perf_counter() - start))
    return latency_from_times(times_ms, warmup=warmup)


def latency_from_times(times_ms: list[float], *, warmup: int) -> Latency:
    """Summarise measured milliseconds. Raises UsageError when there are none."""
    if not times_ms:
        raise UsageError("no timed runs")
    cuts = quantiles(times_ms, n=100, method="inclusive") if len(times_ms) > 1 else times_ms * 99
    return Latency(
        p50_ms=cuts[49],
        p90_ms=cuts[89],
        p95_ms=cuts[94],
        p99_ms=cuts[98],
        mean_ms=sum(times_ms) / len(times_ms),
        min_ms=min(times_ms),
        max_ms=max(times_ms),
        n=len(times_ms),
        warmup=warmup,
    )


def measure_interleaved(
    functions: Sequence[Callable[[], Any]], *, warmup: int, runs: int, patience: Patience | None = None
) -> list[Latency]:
    """Time several functions in turn, A B A B ..., so that a drifting machine treats them alike.

    Raises UsageError as measure_latency does. Returns one Latency per function, in order; their n is what was timed.
    """
    times_ms = interleaved_times(functions, warmup=warmup, runs=runs, patience=patience)
    return [latency_from_times(times, warmup=warmup) for times in times_ms]


def interleaved_times(
    functions: Sequence[Callable[[], Any]],
    *,
    warmup: int,
    runs: int,
    settle: bool = False,
    patience: Patience | None = None,
) -> list[list[float]]:
    """Milliseconds of `runs` rounds in which each function is timed once, in turn; one list per function.

    settle: call each function once, untimed, right before its timed call, so that every time is that of a runtime that
    has just run itself: worker threads of the one before, still spinning, and its data in the caches would slow it.
    patience: how long slow functions are timed before fewer rounds do; None: until all rounds are done.
    Raises UsageError when runs < 1 or warmup < 0.
    """
    if runs < 1 or warmup < 0:
        raise UsageError(f"latency needs at least 1 run and 0 warm-up calls, got {runs} and {warmup}")
    times_ms: list[list[float]] = [[] for _ in functions]
    begun = time.perf_counter()
    for turn in range(warmup + runs):
        if patience is not None and patience.ended(turn - warmup, time.perf_counter() - begun):
            break
        for fn, times in zip(functions, times_ms, strict=True):
            if settle and turn >= warmup:
                fn()
            start = time.perf_counter()
            fn()
            if turn >= warmup:
                times.append(1e3 * (time.perf_counter() - start))
    return times_ms
