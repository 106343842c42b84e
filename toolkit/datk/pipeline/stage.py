"""What a stage is: a section, inputs and a function from them to files in a folder of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import datk
from datk.artifact.files import sha256_json
from datk.artifact.manifest import Dataset, Manifest, Metric, Verdict, Weights
from datk.artifact.provenance import tool_versions
from datk.depth.io_spec import Contract


class Reporter(Protocol):
    """Who tells the person at the terminal. Library code never prints."""

    def stage(self, name: str, title: str, state: str) -> None:
        """state: "built before", "copied from another run", "running", "done", "failed", "not run"."""

    def progress(self, done: int, total: int, what: str = "", stage: str = "") -> None:
        """Called often; total >= 1. stage: its name, where several run at a time."""

    def note(self, text: str) -> None:
        """One line worth keeping: the renderer used, a fallback that was asked for, a path."""


@dataclass(frozen=True)
class StageRun:
    """What a running stage may touch: its own folder, and what it declared to need."""

    out: Path
    """Own folder; survives Ctrl-C, so that the same stage resumes from what lies there."""
    needs: Mapping[str, tuple[Path, Manifest]]
    """Folder and manifest of each needed stage, by stage name."""
    reporter: Reporter
    seed: int

    def folder(self, stage: str) -> Path:
        """Folder of a needed stage."""
        return self.needs[stage][0]

    def manifest(self, stage: str) -> Manifest:
        """Manifest of a needed stage."""
        return self.needs[stage][1]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage hands to its manifest. Outputs are whatever lies in its folder."""

    contract: Contract | None = None
    weights: list[Weights] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    metrics: dict[str, Metric] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    failed_stage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the route."""

    name: str
    """Also its folder's name: 30-student."""
    verb: str
    """Group that --from, --until and the CLI name: student."""
    title: str
    run: Callable[[StageRun], Outcome]
    section: dict[str, Any]
    """Everything of the recipe this stage depends on, as JSON."""
    needs: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    """Of `needs`: where some have failed it runs with what is left, as long as one of these is."""
    files: tuple[tuple[str, str, str], ...] = ()
    """(role, path, sha256) of the user's own files it reads."""
    tools: tuple[str, ...] = ()
    """Distributions whose version changes the bytes."""
    code: tuple[str, ...] = ()
    """Rooms of datk whose source changes the bytes, e.g. "losses", "train"."""
    together: bool = False
    """Trains: under torchrun every process takes part, not the first alone."""
    apart: bool = False
    """Times nothing and takes memory and one core for long: may be built in a process of its own beside others."""
    sealed: bool = False
    """Its folder is handed on: SHA256SUMS over all of it, the manifest included, is written last."""
    volatile: bool = False
    """Rebuilt whenever anything before it was: the report."""

    def key(self, digests: Mapping[str, str], seed: int) -> str:
        """sha256 over section, seed, input digests, file hashes, tool versions and source."""
        return sha256_json(
            {
                "stage": self.name,
                "section": self.section,
                "seed": seed,
                "inputs": {name: digests[name] for name in self.needs},
                "files": [[role, digest] for role, _, digest in self.files],
                "tools": tool_versions(self.tools),
                "code": {room: source_digest(room) for room in self.code},
            }
        )


@cache
def source_digest(room: str) -> str:
    """Hash of the source of one room or file of datk ("losses", "depth/preprocess.py"): Python, and its templates."""
    root = Path(datk.__file__).parent / room
    assert root.exists(), f"no such room: {room}"
    files = [root] if root.is_file() else sorted({*root.rglob("*.py"), *root.rglob("*.j2")})
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root.parent).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
