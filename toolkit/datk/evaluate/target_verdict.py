"""The verdict of one target at one bucket, as a run keeps it: verdict.json of a 65-verdict stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from datk.artifact.manifest import Metric
from datk.depth.io_spec import Size
from datk.errors import DataError
from datk.evaluate.verdict_rule import Compared, Status

STAGE_PREFIX = "65-verdict-"
FILE_NAME = "verdict.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PrecisionVerdict(_Record):
    """One precision: what was measured, how it stands against the base, what becomes of it."""

    precision: str
    artifact: str
    """Folder of the export, 50-export-TARGET-PRECISION."""
    sha256: str
    """Of the artifact judged: a rebuilt one is another."""
    judged_by: str
    """Label of the runner behind accuracy, error and edges."""
    passed: bool
    reasons: tuple[str, ...] = ()
    status: Status
    words: str
    metrics: dict[str, Metric]
    compared: Compared | None = None
    """Against the base; None for the base itself and for what did not pass its gates."""


class TargetVerdict(_Record):
    """Which precision to ship, and everything behind it."""

    schema_version: Literal[1] = 1
    target: str
    input_size: Size
    ship: str | None
    base: str | None
    """The float precision the others are compared with."""
    sentence: str
    """Of the rule alone: "ship fp16; int8 rejected: 1.06x for -1.2 pt"."""
    speed_by: str
    """What speeds were measured with, in words; empty where none was."""
    rows: tuple[PrecisionVerdict, ...]

    @property
    def headline(self) -> str:
        """The sentence with the target before it and, after it, where its speeds come from."""
        h, w = self.input_size
        return f"{self.target} {h}x{w}: {self.sentence}" + (f" ({self.speed_by})" if self.speed_by else "")

    def row(self, precision: str) -> PrecisionVerdict | None:
        """The row of a precision."""
        return next((r for r in self.rows if r.precision == precision), None)


def read_verdict(folder: Path) -> TargetVerdict:
    """Of a 65-verdict stage folder. Raises DataError when absent or damaged."""
    path = folder / FILE_NAME
    try:
        return TargetVerdict.model_validate(json.loads(path.read_text(encoding="utf-8")), strict=False)
    except OSError as error:
        raise DataError(f"{path}: no verdict ({error.strerror})", hint="`datk run RECIPE` writes it") from error
    except (ValueError, ValidationError) as error:
        raise DataError(f"{path}: not a verdict ({error})", hint="`datk run RECIPE --from verdict --force`") from error
