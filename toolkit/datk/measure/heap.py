"""How the C library's heap treats the large temporaries of a net. glibc alone; elsewhere nothing is done.

An activation of some MB is by default a mapping of its own or lies at the heap's end: freed, it goes back to the system
at once, and the next one is 4 KiB page by page fetched and zeroed anew, which was a fifth of a forward pass of ViT-S at
518x518 on two cores (`make bench` prints the ratio).
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""
KEPT_BYTES = 1 << 30
"""A single block above that is still a mapping of its own, and is given back when freed."""


def keep_freed_memory() -> bool:
    """Let this process use freed memory again instead of giving it back; False where the C library has no mallopt(3).

    For a process of ours from its start on: the command, and each worker that runs nets. A process that measures what
    an app needs leaves the heap as it is.
    """
    return _mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) and _mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_freed_memory_back() -> None:
    """Ask glibc to return every free page now (malloc_trim(3)).

    For long loops that keep small results: those lie between freed temporaries, and the heap grows with every round.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # macOS and musl have no such call
        return


def _mallopt(what: int, value: int) -> bool:
    try:
        return bool(ctypes.CDLL(None).mallopt(what, value))
    except AttributeError:  # macOS and musl have no such call
        return False
