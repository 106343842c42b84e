"""Shared by every test."""

from __future__ import annotations

import os

from hypothesis import settings

# Test processes side by side share the cores; set before torch is imported, inherited by the `datk` lines they start.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

# A busy or slow machine is no failed property, and the same commit must give the same verdict twice.
settings.register_profile("datk", deadline=None, derandomize=True)
settings.load_profile("datk")
