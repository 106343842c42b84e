"""`datk --help` from a cold start, against a Python that does nothing. Goal: below 0.3 s."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median
from typing import Any

RUNS = 9


def run() -> list[dict[str, Any]]:
    """Medians of RUNS interleaved starts, seconds."""
    ours = [sys.executable, "-m", "datk.cli.main", "--help"]
    nothing = [sys.executable, "-c", "pass"]
    times: dict[str, list[float]] = {"ours": [], "nothing": []}
    for turn in range(RUNS + 1):
        for name, words in (("ours", ours), ("nothing", nothing)):
            start = time.perf_counter()
            subprocess.run(words, check=True, capture_output=True)
            if turn:
                times[name].append(time.perf_counter() - start)
    value, reference = median(times["ours"]), median(times["nothing"])
    return [
        {
            "name": "datk --help, cold start",
            "value": value,
            "unit": "s",
            "n": RUNS,
            "reference": f"python -c pass: {reference:.3f} s",
            "ratio": value / reference,
        }
    ]
