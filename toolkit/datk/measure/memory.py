"""Resident memory of this process, and what is free on the machine. Bytes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_MEMINFO = Path("/proc/meminfo")


@dataclass
class PeakMemory:
    """Filled in when the `with` block of watch_memory ends."""

    start_bytes: int = 0
    peak_bytes: int = 0
    interval_s: float = 0.0

    @property
    def growth_bytes(self) -> int:
        """Peak minus start: what the block itself needed."""
        return max(0, self.peak_bytes - self.start_bytes)


def resident_bytes() -> int | None:
    """Resident set size now; None where the system does not tell (only Linux does, in /proc)."""
    return _field(_STATUS, "VmRSS")


def peak_resident_bytes() -> int | None:
    """Largest resident set size this process ever had; None where the system does not tell."""
    if (peak := _field(_STATUS, "VmHWM")) is not None:
        return peak
    try:
        import resource
    except ImportError:  # Windows has no such module
        return None
    raw = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return raw if sys.platform == "darwin" else raw * 1024


def forget_peak() -> bool:
    """Let peak_resident_bytes count from now on. False where the system cannot (only Linux can, through /proc)."""
    if not _CLEAR.exists():
        return False
    try:
        _CLEAR.write_text("5", encoding="ascii")
    except OSError:  # a container may forbid it; the peak then counts from the process's start
        return False
    return True


def available_bytes() -> int | None:
    """Memory that can be used without swapping; None where the system does not tell."""
    return _field(_MEMINFO, "MemAvailable")


@contextmanager
def watch_memory(interval_s: float = 0.01) -> Iterator[PeakMemory]:
    """Sample the resident size in a thread while the block runs.

    A spike shorter than the interval can be missed. On systems without /proc both figures stay 0.
    """
    peak = PeakMemory(interval_s=interval_s)
    peak.start_bytes = peak.peak_bytes = resident_bytes() or 0
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(interval_s):
            peak.peak_bytes = max(peak.peak_bytes, resident_bytes() or 0)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
        peak.peak_bytes = max(peak.peak_bytes, resident_bytes() or 0)


def _field(path: Path, name: str) -> int | None:
    """A `Name:  123 kB` line of a /proc file, in bytes."""
    if not path.is_file():
        return None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
