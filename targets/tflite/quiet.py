"""Keep native libraries' talk (absl, MLIR, XNNPACK) off the terminal, in a log or nowhere."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path


@contextmanager
def native_output_to(log: Path | None) -> Iterator[None]:
    """Send file descriptors 1 and 2 to log (appended; None: nowhere) while the block runs.

    Python's own sys.stdout and sys.stderr keep writing where they did, so a progress bar in another
    thread goes on. Not for nested use in several threads at once: descriptors are the process's.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = (os.dup(1), os.dup(2))
    target = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        with ExitStack() as stack:
            for redirect, stream, number, copy in (
                (redirect_stdout, sys.stdout, 1, saved[0]),
                (redirect_stderr, sys.stderr, 2, saved[1]),
            ):
                if _writes_to(stream, number):
                    stack.enter_context(redirect(_stream_on(stack, copy)))
                os.dup2(target, number)
            yield
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, target):
            os.close(descriptor)


def _writes_to(stream: object, number: int) -> bool:
    try:
        return stream.fileno() == number  # type: ignore[attr-defined,no-any-return]
    except (AttributeError, io.UnsupportedOperation, ValueError):
        return False


def _stream_on(stack: ExitStack, descriptor: int) -> io.TextIOWrapper:
    return stack.enter_context(os.fdopen(os.dup(descriptor), "w", encoding="utf-8", errors="replace", buffering=1))
