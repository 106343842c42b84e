"""Worker processes that do not outlive the one that started them."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """Initializer of a process pool's workers: leave as soon as the parent is gone, whichever way it ended.

    A pool whose owner was killed leaves its workers waiting for work for ever. Does nothing outside a worker.
    """
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_leave_after, args=(parent.sentinel,), name="parent watch", daemon=True).start()


def _leave_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # nothing of this process is wanted any more; whole files are only ever renamed into place
