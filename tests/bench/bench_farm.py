"""Scheduler overhead: a thousand simulated jobs on fifty simulated devices. Goal: below 5 ms a job."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from datk.depth.io_spec import DepthKind, contract_for
from datk.farm.inventory import Device
from datk.farm.job import Inputs, Job, Part, Timing
from datk.farm.scheduler import drain
from datk.farm.store import Store
from datk.measure.memory import resident_bytes

JOBS, DEVICES = 1000, 50


def run() -> list[dict[str, Any]]:
    """Milliseconds a job, queueing and intake included, and growth of resident memory from the first 100 jobs on."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        jobs = _jobs(root)
        devices = {j.device.name: j.device for j in jobs}
        store = Store(root / "farm")
        asyncio.run(drain(store, store.add(jobs[:100]), devices))
        before = resident_bytes() or 0
        start, cpu = time.perf_counter(), time.process_time()
        ids = store.add(jobs[100:])
        asyncio.run(drain(store, ids, devices))
        ms = 1e3 * (time.perf_counter() - start) / len(ids)
        cpu_ms = 1e3 * (time.process_time() - cpu) / len(ids)
        assert store.counts(ids) == {"done": len(ids)}
        grown = (resident_bytes() or 0) - before
        store.close()
    common = {"n": len(ids), "ratio": None}
    return [
        {"name": "farm: overhead of a simulated job", "value": ms, "unit": "ms", "reference": "goal: 5 ms", **common},
        {"name": "farm: its processor time", "value": cpu_ms, "unit": "ms", "reference": "of the row above", **common},
        {"name": "farm: memory grown", "value": grown / 1e6, "unit": "MB", "reference": "goal: flat", **common},
    ]


def _jobs(root: Path) -> list[Job]:
    size = (14, 28)
    images = np.zeros((1, *size, 3), np.uint8)
    np.save(root / "inputs.npy", images)
    model = root / "model.onnx"
    model.write_bytes(b"never loaded")
    part = Part(
        role="candidate",
        name="onnx-fp32",
        path=str(model),
        sha256=hashlib.sha256(b"never loaded").hexdigest(),
        bytes=12,
        contract=contract_for(input_size=size, depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp32"),
    )
    inputs = Inputs(path=str(root / "inputs.npy"), sha256="0" * 64, n=1, bytes=images.nbytes + 128)
    devices = [Device(name=f"sim-{k}", kind="simulated") for k in range(DEVICES)]
    timing = Timing(warmup=0, rounds=5, runs=3)
    return [
        Job(
            device=devices[k % DEVICES], runtime="onnxruntime", parts=(part,), inputs=inputs, timing=timing, salt=str(k)
        )
        for k in range(JOBS)
    ]
