"""Which artifact of each target a run stands behind: promoted.json, and who overrode the verdict: overrides.jsonl."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from datk.artifact.files import sha256_json, write_json, write_text
from datk.depth.io_spec import Size
from datk.errors import DataError

PROMOTED = "promoted.json"
OVERRIDES = "overrides.jsonl"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Promoted(_Record):
    """What to take of one target at one bucket."""

    target: str
    input_size: Size
    precision: str | None
    """None when nothing passed its gates and nobody overrode that."""
    artifact: str | None
    """Export folder in the run."""
    sha256: str | None
    """Of the artifact itself; another file of that name is not promoted."""
    by: str | None
    """Who overrode the verdict; None when the verdict decided."""
    why: str
    """The verdict's sentence, or the reason given."""
    verdict: str
    """The verdict's sentence in either case."""


class PromotedFile(_Record):
    """promoted.json."""

    schema_version: Literal[1] = 1
    targets: tuple[Promoted, ...]


class Override(_Record):
    """One line of overrides.jsonl. Lines are only ever added; each holds the digest of the one before."""

    at: str
    target: str
    input_size: Size
    precision: str
    artifact: str
    sha256: str
    """Of the artifact the decision was about: it does not hold for a rebuilt one."""
    gates: Literal["passed", "rejected", "unverified"]
    by: str
    why: str
    instead_of: str | None
    """Precision the verdict would ship."""
    verdict: str
    before: str
    """Digest of the line before; empty in the first."""

    @property
    def digest(self) -> str:
        return sha256_json(self.model_dump(mode="json"))


def read_promoted(run_dir: Path) -> tuple[Promoted, ...]:
    """What the run stands behind; empty when it has no promoted.json. Raises DataError when that is damaged."""
    path = run_dir / PROMOTED
    if not path.is_file():
        return ()
    try:
        return PromotedFile.model_validate_json(path.read_text(encoding="utf-8")).targets
    except (OSError, ValueError, ValidationError) as error:
        raise DataError(f"{path}: not readable ({error})", hint=f"`datk promote {run_dir}` writes it anew") from error


def write_promoted(run_dir: Path, targets: Sequence[Promoted]) -> None:
    """Write promoted.json atomically."""
    write_json(run_dir / PROMOTED, PromotedFile(targets=tuple(targets)).model_dump(mode="json"))


def read_overrides(run_dir: Path) -> list[Override]:
    """Every override in order. Raises DataError when a line is damaged, missing or was changed afterwards."""
    path = run_dir / OVERRIDES
    if not path.is_file():
        return []
    found: list[Override] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entry = Override.model_validate(json.loads(line), strict=False)
        except (ValueError, ValidationError) as error:
            raise DataError(f"{path}:{number}: not an override ({error})", hint="restore the file") from error
        if entry.before != (found[-1].digest if found else ""):
            raise DataError(
                f"{path}:{number}: the line before it was changed or removed",
                hint="overrides are only ever added; restore the file",
            )
        found.append(entry)
    return found


def add_override(run_dir: Path, override: Override) -> None:
    """Append one line, atomically: the file is whole before and after. The caller holds the run's lock."""
    lines = [*read_overrides(run_dir), override]
    write_text(
        run_dir / OVERRIDES,
        "".join(json.dumps(entry.model_dump(mode="json"), ensure_ascii=False) + "\n" for entry in lines),
    )
