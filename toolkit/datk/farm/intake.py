"""What a device sent back, held against what was asked. Nothing of it is trusted: not a name, a size or a number."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from datk.artifact.files import sha256_file
from datk.farm.adapters.base import clean_text
from datk.farm.agent import npy_header
from datk.farm.build_job import AnyJob, BuildJob
from datk.farm.errors import (
    AgentCrashed,
    ConnectionLost,
    CorruptResult,
    DeviceError,
    DeviceFull,
    JobFailed,
    JobTimeout,
    WrongDevice,
)
from datk.farm.job import PREDICTIONS, Job
from datk.farm.session import RESULT, RESULT_LIMIT

HEADER_BYTES = 128
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Words = Annotated[str, StringConstraints(max_length=400)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e300, le=1e300)]
Milliseconds = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e9)]


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeviceFacts(_Told):
    """What the device says it is."""

    machine: Words | None = None
    system: Words | None = None
    release: Words | None = None
    model: Words | None = None
    python: Words | None = None
    numpy: Words | None = None
    cores: int | None = None
    memory_bytes: int | None = None
    free_bytes: int | None = None
    runtimes: dict[Words, Words] = Field(default_factory=dict, max_length=8)


class Sensors(_Told):
    """Clocks, temperatures, power, load; absent where the device does not tell."""

    time_s: Finite | None = None
    temperatures_c: dict[Words, Finite] = Field(default_factory=dict, max_length=64)
    clocks_mhz: dict[Words, Finite] = Field(default_factory=dict, max_length=256)
    power_mw: dict[Words, Finite] = Field(default_factory=dict, max_length=512)
    battery_percent: Finite | None = None
    battery_status: Words | None = None
    throttle_count: Finite | None = None
    load_1min: Finite | None = None
    power_mode: Words | None = None


class Benchmark(_Told):
    """What LiteRT's own benchmark binary measured, without this agent's Python in between."""

    init_ms: Milliseconds
    first_run_ms: Milliseconds
    warmup_mean_ms: Milliseconds
    mean_ms: Milliseconds
    peak_mb: Milliseconds | None = None


class PartFigures(_Told):
    """One artifact on the device. times_ms: rounds x runs x (pre, infer, post)."""

    role: Literal["candidate", "baseline"]
    sha256: Sha256
    load_ms: Milliseconds
    first_run_ms: Milliseconds
    build_s: Milliseconds | None = None
    times_ms: list[list[tuple[Milliseconds, Milliseconds, Milliseconds]]]
    placement: dict[Words, int | Annotated[list[Words], Field(max_length=40)]] | None = None
    no_placement: Words | None = None
    benchmark: Benchmark | None = None
    no_benchmark: Words | None = None
    """Why there is none; both None where none was asked for."""


class Predictions(_Told):
    """What predictions.npy holds: map k is stored[k] / scale[k] + shift[k]."""

    sha256: Sha256
    shape: tuple[int, int, int]
    scale: list[Annotated[float, Field(allow_inf_nan=False, gt=0, le=1e38)]]
    shift: list[Finite]
    float32_sha256: Sha256
    """Of the maps before they were halved: equal on two devices when every bit is."""


class Memory(_Told):
    """Resident bytes of the worker alone; None where the system does not tell."""

    start_bytes: int | None = None
    loaded_bytes: int | None = None
    peak_bytes: int | None = None
    child_bytes: int | None = None


class Work(_Told):
    """A job that was done."""

    runtime: Words
    parts: list[PartFigures] = Field(min_length=1, max_length=2)
    predictions: Predictions
    sensors_before: Sensors
    sensors_after: Sensors
    memory: Memory


class BuiltFile(_Told):
    """A file that was made there."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class Built(_Told):
    """What a script left, and how it ended."""

    exit_code: int
    outputs: dict[Words, BuiltFile] = Field(max_length=16)
    sensors_before: Sensors
    sensors_after: Sensors
    memory: Memory


class Trouble(_Told):
    """Why it was not done, in the device's words."""

    kind: Words
    message: Annotated[str, StringConstraints(max_length=4000)]


class _Report(_Told):
    """result.json, whatever was done."""

    schema_version: Literal[1]
    job: Words
    outcome: Literal["ok", "failed", "crashed", "timeout", "cancelled"]
    error: Trouble | None
    exit_code: int | None
    device: DeviceFacts
    log: Annotated[str, StringConstraints(max_length=20_000)]
    wall_s: float = Field(ge=0, allow_inf_nan=False)


class DeviceResult(_Report):
    """result.json of an artifact that was run."""

    work: Work | None


class BuildReport(_Report):
    """result.json of files that were made."""

    work: Built | None


class _Any(_Report):
    work: Any


_R = TypeVar("_R", bound=_Report)


def check_result(job: Job, folder: Path) -> DeviceResult:
    """The verified result in `folder`.

    Raises CorruptResult when it is not what the job asked for, or what the device's own trouble means.
    """
    result = read_result(folder)
    _check_report(job, result)
    assert result.work is not None
    _check_work(job, result.work)
    _check_predictions(job, result.work.predictions, folder / PREDICTIONS)
    return result


def check_built(job: BuildJob, folder: Path) -> BuildReport:
    """The verified report in `folder`, and beside it files with the hashes it names.

    Raises CorruptResult when they are not what the job asked for, WrongDevice or JobFailed in the script's own words
    when it lacked something or made nothing.
    """
    report = read_built(folder)
    _check_report(job, report)
    assert report.work is not None
    if job.device.kind == "simulated":
        return report
    limits = {r.name: r.limit for r in job.results}
    for name, told in report.work.outputs.items():
        path = folder / name if name in limits else None
        if path is None or path.is_symlink() or not path.is_file():
            raise CorruptResult(f"{job.device.name}: {name[:100]!r} is told of and was not brought back")
        if path.stat().st_size != told.bytes or sha256_file(path) != told.sha256:
            raise CorruptResult(f"{name}: its sha256 is not the one the device wrote down")
    code = report.work.exit_code
    if code not in (0, 3):
        message = f"{job.device.name}: {_script_words(job, report, folder)}"
        raise WrongDevice(message) if code == 4 else JobFailed(message)
    if missing := [name for name in limits if name not in report.work.outputs]:
        raise CorruptResult(f"{job.device.name}: {job.script} ended with {code} and left no {', '.join(missing)}")
    return report


def read_result(folder: Path) -> DeviceResult:
    """Parse result.json. Raises CorruptResult; a device's words are never taken as more than words."""
    return _parsed(DeviceResult, folder)


def read_built(folder: Path) -> BuildReport:
    """Parse result.json of a build. Raises CorruptResult."""
    return _parsed(BuildReport, folder)


def read_log(folder: Path) -> str:
    """What a job printed on the device, whichever kind it was. Raises CorruptResult."""
    return _parsed(_Any, folder).log


def read_told(path: Path, limit: int = RESULT_LIMIT) -> Any:
    """JSON values from a device's file, without control characters. Raises CorruptResult."""
    if path.stat().st_size > limit:
        raise CorruptResult(f"{path.name}: larger than {limit} bytes")
    try:
        return _clean(json.loads(path.read_bytes(), parse_constant=_no_constant))
    except (ValueError, RecursionError) as error:
        words = f"no sound JSON ({type(error).__name__})"
        raise CorruptResult(f"{path.name} is not what the agent writes: {words}") from error


def _parsed(model: type[_R], folder: Path) -> _R:
    value = read_told(folder / RESULT)
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise CorruptResult(f"{RESULT} is not what the agent writes: {_first(error)}") from error


def _check_report(job: AnyJob, result: DeviceResult | BuildReport) -> None:
    if result.job != job.key[:16]:
        raise CorruptResult(f"{job.device.name}: the result is of another job ({result.job})")
    if result.outcome != "ok" or result.work is None:
        raise _trouble(job, result)


def _script_words(job: BuildJob, report: BuildReport, folder: Path) -> str:
    """Why a script made nothing: its own `detail`, else its last line."""
    assert report.work is not None
    said = read_told(folder / job.answer) if job.answer in report.work.outputs else None
    if isinstance(said, dict) and isinstance(said.get("detail"), str) and said["detail"]:
        return str(said["detail"])[:2000]
    lines = report.log.strip().splitlines()
    tail = f": {lines[-1][:300]}" if lines else ""
    return f"{job.script} ended with code {report.work.exit_code}{tail}"


def maps_of(result: DeviceResult, folder: Path) -> NDArray[np.float32]:
    """(n, h, w) float32 maps in the artifact's own unit, from a verified result."""
    assert result.work is not None
    told = result.work.predictions
    stored = np.fromfile(folder / PREDICTIONS, "<f2", offset=HEADER_BYTES).reshape(told.shape).astype(np.float64)
    scale, shift = (np.asarray(v)[:, None, None] for v in (told.scale, told.shift))
    return np.asarray(stored / scale + shift, dtype=np.float32)


def _check_work(job: Job, work: Work) -> None:
    asked = [(p.role, p.sha256) for p in job.parts]
    if [(p.role, p.sha256) for p in work.parts] != asked:
        raise CorruptResult(f"{job.device.name}: the result is about other artifacts than were sent")
    for part in work.parts:
        if len(part.times_ms) != job.timing.rounds or any(len(r) != job.timing.runs for r in part.times_ms):
            raise CorruptResult(f"{job.device.name}: expected {job.timing.rounds} rounds of {job.timing.runs} times")


def _check_predictions(job: Job, told: Predictions, path: Path) -> None:
    n, h, w = job.prediction_shape
    if tuple(told.shape) != (n, h, w) or len(told.scale) != n or len(told.shift) != n:
        raise CorruptResult(f"{job.device.name}: predictions of shape {told.shape}, asked for {(n, h, w)}")
    if not path.is_file() or path.is_symlink():
        raise CorruptResult(f"{job.device.name}: no {PREDICTIONS}")
    if path.stat().st_size != 2 * n * h * w + HEADER_BYTES:
        raise CorruptResult(f"{PREDICTIONS}: {path.stat().st_size} bytes, expected {2 * n * h * w + HEADER_BYTES}")
    with path.open("rb") as handle:
        header = handle.read(HEADER_BYTES)
        handle.seek(0)
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != told.sha256:
        raise CorruptResult(f"{PREDICTIONS}: its sha256 is not the one the device wrote down")
    if header != npy_header((n, h, w)):
        raise CorruptResult(f"{PREDICTIONS}: not the header of {(n, h, w)} float16 values")


_MEANING: dict[str, type[DeviceError]] = {
    "load": JobFailed,
    "run": JobFailed,
    "runtime_missing": WrongDevice,
    "disk_full": DeviceFull,
    "transfer": ConnectionLost,
}


def _trouble(job: AnyJob, result: DeviceResult | BuildReport) -> DeviceError:
    words = result.error.message if result.error else "no words"
    message = f"{job.device.name}: {words}"
    if result.outcome == "timeout":
        return JobTimeout(message)
    if result.outcome == "failed" and result.error is not None:
        return _MEANING.get(result.error.kind, JobFailed)(message)
    lines = result.log.strip().splitlines()
    return AgentCrashed(message + (f"; last line of its log: {lines[-1][:200]}" if lines else ""))


def _clean(value: Any) -> Any:
    """Every text without control characters."""
    if isinstance(value, str):
        return clean_text(value.encode("utf-8", "replace"))
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _first(error: ValidationError) -> str:
    item = error.errors()[0]
    return f"{'.'.join(map(str, item['loc']))[:200]}: {item['msg'][:200]}"
