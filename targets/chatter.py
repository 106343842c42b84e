"""Keep the SDKs' own talk off the user's terminal; errors still come through as exceptions."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def sdk_chatter_off() -> Iterator[io.StringIO]:
    """Hold back stdout prints, log records up to WARNING and Python warnings; yields what was printed.

    stderr stays as it is: the caller's progress bar lives there, and a real crash must be seen.
    """
    level = logging.root.manager.disable
    printed = io.StringIO()
    logging.disable(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")
            yield printed
    finally:
        logging.disable(level)
