"""What torchrun tells the processes it starts, read from the environment here and nowhere else."""

from __future__ import annotations

import os


def launched_together() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def process_number() -> int:
    """This process's rank; 0 when it is alone."""
    return int(os.environ.get("RANK", "0")) if launched_together() else 0


def processes() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if launched_together() else 1
