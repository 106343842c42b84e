"""How long a thread spends in named phases (read, decode, resize), exclusive of each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class _Local(threading.local):
    def __init__(self) -> None:
        self.open: list[tuple[str, float, list[float]]] = []
        self.totals_s: dict[str, float] = {}


_LOCAL = _Local()


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Count the time of the block to `name` in this thread; time of phases inside it is theirs, not its own."""
    inner = [0.0]
    begun = time.perf_counter()
    _LOCAL.open.append((name, begun, inner))
    try:
        yield
    finally:
        took = time.perf_counter() - begun
        _LOCAL.open.pop()
        _LOCAL.totals_s[name] = _LOCAL.totals_s.get(name, 0.0) + took - inner[0]
        if _LOCAL.open:
            _LOCAL.open[-1][2][0] += took


def take() -> dict[str, float]:
    """Seconds by phase of this thread since the last call."""
    totals, _LOCAL.totals_s = _LOCAL.totals_s, {}
    return totals
