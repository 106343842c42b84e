"""One manifest.json per stage output: what went in, what came out, with which tools, how good it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datk.artifact.files import sha256_file, sha256_json, size_bytes, write_json
from datk.depth.io_spec import Contract
from datk.errors import DataError

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
LOG_SUFFIXES = (".csv", ".log")
"""Outputs that tell how long things took: listed and hashed, but nothing later depends on them."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputRef(_Record):
    """Something a stage read: an earlier stage's manifest digest, or a file or folder of the user's."""

    role: str
    path: str
    sha256: str


class OutputRef(_Record):
    """A file or package a stage wrote; path relative to the stage folder."""

    path: str
    sha256: str
    bytes: int


class Metric(_Record):
    """A figure with its unit and sample count, or the reason why it was not measured."""

    value: float | None
    unit: str = ""
    n: int | None = None
    higher_is_better: bool | None = None
    interval95: tuple[float, float] | None = None
    not_measured: str | None = None
    """Reason; set exactly when value is None."""


class Weights(_Record):
    """Whose weights these are, and under which licence."""

    name: str
    sha256: str
    licence: str


class Dataset(_Record):
    """Images a stage used. split_sha256 hashes the sorted list of file digests."""

    name: str
    split_sha256: str
    licence: str
    n: int


class Verdict(_Record):
    """passed: every gate holds. rejected: kept, but must not ship; reasons in words with figures. unverified: this
    machine could not run it, so nothing is known of what it computes; kept, and not shipped by itself."""

    status: Literal["passed", "rejected", "unverified"]
    reasons: list[str] = Field(default_factory=list)


class Manifest(_Record):
    """What house rules ask of every stage output. Paths are relative to the run folder."""

    schema_version: Literal[1] = 1
    stage: str
    key: str
    """sha256 over section, input digests and tool versions: same key, same result, stage skipped."""
    created_at: str
    inputs: list[InputRef] = Field(default_factory=list)
    outputs: list[OutputRef] = Field(default_factory=list)
    recipe_sha256: str | None = None
    section: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    contract: Contract | None = None
    weights: list[Weights] = Field(default_factory=list)
    datasets: list[Dataset] = Field(default_factory=list)
    tools: dict[str, str] = Field(default_factory=dict)
    git: dict[str, Any] | None = None
    host: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Metric] = Field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """A target's own checks: status passed | failed | not_measured, detail, figures."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What the stage chose or found: renderer used, device, precision, feature source, reference."""
    verdict: Verdict | None = None
    failed_stage: str | None = None
    duration_s: float

    @property
    def digest(self) -> str:
        """What later stages depend on: the content of the outputs, not when or where they were made."""
        kept = sorted((o for o in self.outputs if not o.path.endswith(LOG_SUFFIXES)), key=lambda o: o.path)
        return sha256_json([[o.path, o.sha256] for o in kept] or [self.key])


def output_ref(path: Path, *, relative_to: Path) -> OutputRef:
    """Hash and measure one output."""
    return OutputRef(path=path.relative_to(relative_to).as_posix(), sha256=sha256_file(path), bytes=size_bytes(path))


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write folder/manifest.json atomically."""
    write_json(folder / FILE_NAME, manifest.model_dump(mode="json"))


def read_manifest(folder: Path) -> Manifest:
    """Read folder/manifest.json. Raises DataError when absent, damaged or of an unknown schema version."""
    path = folder / FILE_NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: no manifest ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: manifest schema version {version!r}, this datk reads {SCHEMA_VERSION}",
            hint="rebuild with `datk run RECIPE --force`, or use the datk that wrote it",
        )
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
