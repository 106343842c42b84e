"""The sensitivity map as a file: figures per unit, resumable while it is made, and what a scheme takes from it."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datk.artifact.files import write_json
from datk.errors import DataError
from datk.quantize.units import Level


class UnitRow(BaseModel):
    """One unit with its figures per photograph; None where the map was constant or not finite."""

    model_config = ConfigDict(extra="forbid")

    name: str
    level: Level
    kind: str
    error: list[float | None] = Field(default_factory=list)
    """1 - Pearson correlation of the map with the float net's, per photograph."""
    abs_rel: list[float | None] = Field(default_factory=list)
    """After scale-shift alignment in disparity, per photograph."""

    @property
    def mean_error(self) -> float:
        """Mean over the photographs; infinite when the map was unusable on one."""
        return math.inf if None in self.error else float(np.mean([e for e in self.error if e is not None]))


class SensitivityMap(BaseModel):
    """All units of one net at one bucket."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    key: str
    """sha256 over weights, bucket, form, photographs: a file with another key is another map."""
    complete: bool
    facts: dict[str, Any]
    """Weights' digest, input_size, form, photographs, seconds, host."""
    units: list[UnitRow]

    def rows(self, level: Level) -> list[UnitRow]:
        """Units of a level, most sensitive first."""
        return sorted((u for u in self.units if u.level == level and u.error), key=lambda u: -u.mean_error)

    def float_layers(self, *, limit: float | None = None, count: int | None = None) -> tuple[str, ...]:
        """Regular expressions for LinearConvQuantizer(float_layers=...): layers too sensitive to quantise.

        limit: those whose error alone (1 - r, mean over photographs) is larger. count: the worst so many of them.
        Raises DataError when the map is not complete.
        """
        if not self.complete:
            raise DataError(
                "the sensitivity map is not complete", hint="run `datk quantize sensitivity` again; it goes on"
            )
        rows = [u for u in self.rows("layer") if limit is None or u.mean_error > limit]
        return tuple(rf"(^|\.){re.escape(u.name)}\." for u in rows[:count])


def write_map(value: SensitivityMap, path: Path) -> None:
    """Write atomically."""
    write_json(path, value.model_dump(mode="json"))


def read_map(path: Path) -> SensitivityMap:
    """Raises DataError when path is absent or no map."""
    try:
        return SensitivityMap.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: no sensitivity map ({error.strerror})", hint="datk quantize sensitivity") from error
    except (ValueError, ValidationError) as error:
        raise DataError(f"{path}: not a sensitivity map: {error}", hint="delete it and measure again") from error
