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


@cache
def available() -> dict[str, Benchmark]:
    """Every benchmark by name, sorted."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules([str(Path(__file__).parent)])
    )
    found = [m.BENCHMARK for m in modules if hasattr(m, "BENCHMARK")]
    return {b.name: b for b in sorted(found, key=lambda b: b.name)}


def get(name: str) -> Benchmark:
    """The benchmark of that name. Raises UsageError with the known names and the nearest one."""
    known = available()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UsageError(f"no benchmark named '{name}'", hint=f"{hint}known: {', '.join(known)}")
