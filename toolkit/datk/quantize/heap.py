"""Give freed memory back to the system between photographs.

PyTorch's temporaries of some MB come from the C library's heap. Small statistics that NNCF keeps lie between them, so
the heap never shrinks by itself: at 518x518 quantising ViT-S grew by 0.1 GB a photograph.
"""

from __future__ import annotations

import ctypes


def give_back_freed_memory() -> None:
    """Ask glibc to return every free page (malloc_trim(3)). Another C library: nothing is done."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # macOS and musl have no such call
        return
