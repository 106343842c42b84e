"""The record of one `datk validate` call, kept with --keep and read by `datk report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datk.errors import DataError
from datk.evaluate.benchmarks.dense import DenseResult
from datk.evaluate.benchmarks.pairs import BenchResult
from datk.evaluate.comparison import Difference
from datk.evaluate.gates import GateResult


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordPicture(_Record):
    """A small picture. jpeg: base64."""

    caption: str
    jpeg: str = Field(pattern=r"^[A-Za-z0-9+/]+=*$")


class ErrorPictures(_Record):
    """An image of a dense benchmark on which a model loses, drawn while model and data were at hand."""

    image: str
    text: str
    full_scale: float
    """Relative error painted brightest."""
    pictures: tuple[RecordPicture, ...]


class JudgedRow(_Record):
    """One model. Exactly one of pairs and dense is there."""

    name: str
    judged_by: str
    size: str | None
    metric: str
    pairs: BenchResult | None = None
    dense: DenseResult | None = None
    versus: Difference | None = None
    words: str = ""
    gates: tuple[GateResult, ...] = ()
    denominator: str
    problems: tuple[str, ...] = ()

    @property
    def result(self) -> BenchResult | DenseResult:
        found = self.pairs or self.dense
        assert found is not None
        return found


class JudgedFile(_Record):
    """A benchmark and every model scored on it in one call."""

    schema_version: Literal[1] = 1
    kind: Literal["datk judged"] = "datk judged"
    bench: str
    protocol: str
    notes: tuple[str, ...] = ()
    data: str | None
    """The benchmark's folder as it was named: pictures in the report are read from there."""
    reference: str | None
    rows: tuple[JudgedRow, ...]
    error_maps: tuple[ErrorPictures, ...] = ()
    """Dense benchmarks: the worst images."""


def read_judged(path: Path) -> JudgedFile:
    """Raises DataError when it is absent or not such a record."""
    try:
        return JudgedFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", hint="`datk validate ... --keep FILE`") from error
    except (ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{path}: not a record of `datk validate --keep` ({first})") from error
