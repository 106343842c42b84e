"""The heap each side of a comparison has in real life: datk's, which keeps freed memory, and a plain script's."""

from __future__ import annotations

import ctypes
import platform

from datk.measure.heap import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, give_freed_memory_back, keep_freed_memory

PLAIN_MMAP, PLAIN_TRIM = 32 << 20, 64 << 20
"""Where glibc's own thresholds come to rest once a large block was freed (mallopt(3), DEFAULT_MMAP_THRESHOLD_MAX)."""


def as_in_datk() -> None:
    """What the command and its workers do at their start."""
    keep_freed_memory()


def as_in_a_plain_script() -> None:
    """glibc as it comes; nothing of the other side's heap is left to be used again."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, PLAIN_MMAP)
        library.mallopt(M_TRIM_THRESHOLD, PLAIN_TRIM)
    give_freed_memory_back()
