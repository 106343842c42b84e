"""Benchmarks: one file each. A module of this folder that exposes BENCHMARK is one."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from datk.errors import UsageError

if TYPE_CHECKING:
    from datk.evaluate.benchmarks.base import Benchmark
    from datk.evaluate.benchmarks.dense import DenseBenchmark
    from datk.evaluate.benchmarks.flicker import FlickerBenchmark
    from datk.evaluate.benchmarks.mattes import MatteBenchmark

    AnyBenchmark = Benchmark | DenseBenchmark | FlickerBenchmark | MatteBenchmark


@cache
def available() -> dict[str, AnyBenchmark]:
    """Every benchmark by name, sorted: point pairs and dense ones. A module exposes BENCHMARK, or BENCHMARKS."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules([str(Path(__file__).parent)])
    )
    found = [
        b for m in modules for b in (*getattr(m, "BENCHMARKS", ()), *filter(None, [getattr(m, "BENCHMARK", None)]))
    ]
    return {b.name: b for b in sorted(found, key=lambda b: b.name)}


def get(name: str) -> AnyBenchmark:
    """The benchmark of that name. Raises UsageError with the known names and the nearest one."""
    known = available()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UsageError(f"no benchmark named '{name}'", hint=f"{hint}known: {', '.join(known)}")


def get_pairs(name: str) -> Benchmark:
    """The point-pair benchmark of that name: what a recipe and the farm gate on. Raises UsageError for a dense one."""
    from datk.evaluate.benchmarks.base import Benchmark

    found = get(name)
    if not isinstance(found, Benchmark):
        pairs = [n for n, b in available().items() if isinstance(b, Benchmark)]
        raise UsageError(
            f"{name} is a dense benchmark; here a benchmark of point pairs is needed",
            hint=f"use one of {', '.join(pairs)}; `datk validate MODEL --bench {name}` scores the dense one",
        )
    return found
