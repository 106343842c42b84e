"""A device that does not exist: it answers at once, with maps made from the picture's own brightness.

For tests of queue, leases and reports. Everything it returns is marked simulated and never reported as measured.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from datk.farm.adapters.base import Adapter, Log, Session
from datk.farm.agent import npy_header
from datk.farm.build_job import AnyJob, BuildJob
from datk.farm.errors import AgentCrashed, ConnectionLost, CorruptResult, DeviceBusy, DeviceError, JobTimeout
from datk.farm.inventory import Device, Simulation
from datk.farm.job import Job

FAULTS: dict[str, type[DeviceError]] = {
    "connection": ConnectionLost,
    "crash": AgentCrashed,
    "corrupt": CorruptResult,
    "hang": JobTimeout,
    "busy": DeviceBusy,
}
_UNREAD: dict[str, Any] = {"memory": {}, "sensors_before": {}, "sensors_after": {}}
_tried: dict[tuple[str, str], int] = {}


class SimulatedSession:
    """A Session without a device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._simulation = device.simulated or Simulation()

    async def probe(self) -> dict[str, object]:
        """What it claims to be."""
        runtimes = dict.fromkeys(self._device.runtimes or ("litert", "onnxruntime"), "simulated")
        return {"machine": "simulated", "model": "no device", "runtimes": runtimes}

    async def run_job(self, job: AnyJob, out: Path, log: Log) -> None:
        """Fail as told, then write a result of the right form."""
        attempt = _tried.get((self._device.name, job.key), 0)
        _tried[(self._device.name, job.key)] = attempt + 1
        await asyncio.sleep(self._simulation.job_s)
        if attempt < len(self._simulation.fail):
            fault = self._simulation.fail[attempt]
            raise FAULTS[fault](f"{self._device.name}: simulated {fault}")
        work = _built() if isinstance(job, BuildJob) else _ran(job, _predictions(job, out))
        (out / "result.json").write_text(json.dumps(_result(job, work)), encoding="utf-8")
        log("simulated")


def _predictions(job: Job, out: Path) -> dict[str, Any]:
    """Brightness as a map. float16 holds k/256 exactly."""
    import numpy as np

    images = np.load(job.inputs.path, mmap_mode="r", allow_pickle=False)
    maps = (images.mean(axis=3, dtype=np.float32).round() / 256).astype(np.float16)  # (n, h, w)
    (out / "predictions.npy").write_bytes(npy_header(maps.shape) + maps.astype("<f2").tobytes())
    digest = hashlib.sha256((out / "predictions.npy").read_bytes()).hexdigest()
    raw = hashlib.sha256(maps.astype(np.float32).tobytes()).hexdigest()
    n = len(maps)
    shape = list(maps.shape)
    return {"sha256": digest, "shape": shape, "scale": [1.0] * n, "shift": [0.0] * n, "float32_sha256": raw}


def _ran(job: Job, predictions: dict[str, Any]) -> dict[str, Any]:
    timing = job.timing
    parts = [
        {
            "role": part.role,
            "sha256": part.sha256,
            "load_ms": 0.0,
            "first_run_ms": 0.0,
            "times_ms": [[[0.0, 0.0, 0.0]] * timing.runs] * timing.rounds,
            "placement": None,
            "no_placement": "simulated",
        }
        for part in job.parts
    ]
    return {"runtime": "simulated", "parts": parts, "predictions": predictions, **_UNREAD}


def _built() -> dict[str, Any]:
    """Nothing is made: there is no device."""
    return {"exit_code": 0, "outputs": {}, **_UNREAD}


def _result(job: AnyJob, work: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "job": job.key[:16],
        "outcome": "ok",
        "error": None,
        "exit_code": 0,
        "work": work,
        "device": {"machine": "simulated", "model": "no device"},
        "log": "",
        "wall_s": 0.0,
    }


@asynccontextmanager
async def _open(device: Device) -> AsyncIterator[Session]:
    yield SimulatedSession(device)


ADAPTER = Adapter(kind="simulated", title="no device at all; for tests", figures="simulated", open=_open)
