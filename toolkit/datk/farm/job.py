"""One unit of work: these artifacts, on this device, in this way. What is equal is never run twice."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from datk.artifact.files import sha256_file, sha256_json
from datk.depth.io_spec import Contract
from datk.farm.inventory import Device, Runtime

AGENT = Path(__file__).with_name("agent.py")
PREDICTIONS = "predictions.npy"
RUNTIME_OF = {".tflite": "litert", ".onnx": "onnxruntime", ".mlpackage": "coreml", ".engine": "tensorrt"}
"""Ending of an artifact -> the runtime that loads it; a Jetson's .onnx names tensorrt itself."""


class Record(BaseModel):
    """Frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(Record):
    """One artifact of a job."""

    role: Literal["candidate", "baseline"]
    name: str
    """TARGET-PRECISION."""
    path: str
    """Of the file or package on this host."""
    sha256: str
    bytes: int
    contract: Contract


class Inputs(Record):
    """What both parts see: one .npy of shape (n, h, w, 3), uint8."""

    path: str
    sha256: str
    n: int = Field(ge=1)
    bytes: int


class Timing(Record):
    """How latency is taken: `rounds` times, each part in turn, `runs` calls each."""

    warmup: int = Field(default=3, ge=0, le=1000)
    rounds: int = Field(default=10, ge=1, le=1000)
    runs: int = Field(default=3, ge=1, le=1000)


class Job(Record):
    """Everything an adapter needs to run it."""

    device: Device
    runtime: Runtime
    parts: tuple[Part, ...]
    """The candidate first, then the baseline where there is one."""
    inputs: Inputs
    timing: Timing = Timing()
    salt: str = ""
    """Set by --force: the same job once more."""

    @cached_property
    def key(self) -> str:
        """sha256 over artifacts, inputs, device and configuration: the idempotency key."""
        device = self.device.model_dump(
            mode="json", include={"name", "kind", "runtimes", "arch", "power_mode", "threads", "python", "simulated"}
        )
        return sha256_json(
            {
                "device": device,
                "runtime": self.runtime,
                "parts": [[p.role, p.sha256] for p in self.parts],
                "inputs": self.inputs.sha256,
                "timing": self.timing.model_dump(mode="json"),
                "agent": agent_sha256(),
                "salt": self.salt,
            }
        )

    @property
    def candidate(self) -> Part:
        return self.parts[0]

    @property
    def title(self) -> str:
        """For the table: what runs where."""
        return f"{self.candidate.name} on {self.device.name}"

    @property
    def bytes_needed(self) -> int:
        """Bytes the job takes on the device: artifacts, inputs, predictions and 32 MB of room."""
        return self.sent_bytes + self.prediction_bytes + 32_000_000

    @property
    def prediction_shape(self) -> tuple[int, int, int]:
        """(n, h, w) of predictions.npy."""
        return (self.inputs.n, *self.candidate.contract.input_size)

    @property
    def prediction_bytes(self) -> int:
        """Largest honest predictions.npy: float16 and a header of 128 bytes."""
        n, h, w = self.prediction_shape
        return 2 * n * h * w + 128

    @property
    def sent(self) -> list[tuple[Path, str]]:
        """(file or package on this host, its name in the job's folder on the device)."""
        parts = [(Path(part.path), remote_name(part, number)) for number, part in enumerate(self.parts)]
        return [*parts, (Path(self.inputs.path), "inputs.npy")]

    @property
    def sent_bytes(self) -> int:
        """Of artifacts and inputs."""
        return sum(p.bytes for p in self.parts) + self.inputs.bytes

    def fetched(self, answer: dict[str, Any]) -> list[tuple[str, str, int]]:
        """(name there, name here, bytes at most) of what to bring back after an answer nobody has checked yet."""
        return [(PREDICTIONS, PREDICTIONS, self.prediction_bytes)] if answer.get("outcome") == "ok" else []

    def for_device(self) -> dict[str, Any]:
        """job.json as the agent reads it: names are the host's own, none comes from a user or a device."""
        return {
            "schema_version": 1,
            "job": self.key[:16],
            "runtime": self.runtime,
            "threads": self.device.threads,
            "warmup": self.timing.warmup,
            "rounds": self.timing.rounds,
            "runs": self.timing.runs,
            "deadline_s": self.device.limits.timeout_s,
            "artifacts": [
                {
                    "role": part.role,
                    "file": remote_name(part, number),
                    "sha256": part.sha256,
                    "input": part.contract.input.model_dump(mode="json"),
                    "output": part.contract.output.model_dump(mode="json"),
                    "input_size": list(part.contract.input_size),
                }
                for number, part in enumerate(self.parts)
            ],
            "inputs": {"file": "inputs.npy", "sha256": self.inputs.sha256, "n": self.inputs.n},
            "benchmark": self.device.adb.benchmark if self.device.adb is not None else None,
        }


@cache
def agent_sha256() -> str:
    """Of the agent this datk sends: another agent may measure otherwise."""
    return sha256_file(AGENT)


def remote_name(part: Part, number: int) -> str:
    """artifact-0.tflite: nothing of the user's own file name reaches the device but a known ending."""
    suffix = Path(part.path).suffix
    return f"artifact-{number}{suffix if suffix in RUNTIME_OF else '.bin'}"
