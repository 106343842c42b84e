"""How much an int8 result depends on which photographs were drawn to calibrate it: figures per seed, kept as a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from datk.artifact.files import write_json
from datk.depth.io_spec import Size
from datk.errors import DataError
from datk.evaluate.gates import Gates

LEAST_SEEDS = 3
"""Below so many nothing is said about a spread."""


def file_name(target: str, size: Size) -> str:
    """Of the figures, beside the weights they are about."""
    return f"seeds-{target}-{size[0]}x{size[1]}.json"


class SeedRow(BaseModel):
    """One seed: what was drawn, and the int8 program's agreement with the float net per held-out photograph."""

    model_config = ConfigDict(extra="forbid")

    seed: int
    drawn: list[str]
    """Names of the calibration photographs."""
    r: list[float | None] = Field(default_factory=list)
    """Pearson correlation with the float net's map, in the order of facts.held_out; None: constant or not finite."""
    quantise_s: float = 0.0
    judge_s: float = 0.0

    @property
    def values(self) -> list[float]:
        """r with the unusable maps as -1: worse than any that can be used."""
        return [-1.0 if r is None else r for r in self.r]

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    @property
    def worst(self) -> float:
        return min(self.values)

    @property
    def mean_error(self) -> float:
        """Mean of 1 - r."""
        return float(1 - np.mean(self.values))


class SeedSpread(BaseModel):
    """All seeds of one net, target and bucket."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    key: str
    """sha256 over weights, target, bucket, photographs to draw from and to judge on: another key, another file."""
    facts: dict[str, Any]
    seeds: list[SeedRow] = Field(default_factory=list)

    @field_validator("facts")
    @classmethod
    def _has_what_is_read(cls, facts: dict[str, Any]) -> dict[str, Any]:
        if missing := {"weights_sha256", "drawn", "held_out"} - facts.keys():
            raise ValueError(f"facts lack {', '.join(sorted(missing))}")
        return facts

    def row(self, seed: int) -> SeedRow | None:
        """That seed's figures so far."""
        return next((row for row in self.seeds if row.seed == seed), None)

    @property
    def complete(self) -> int:
        """Seeds judged on every photograph."""
        return sum(len(row.r) == len(self.facts["held_out"]) for row in self.seeds)

    def summary(self, gates: Gates) -> dict[str, Any]:
        """The spread in figures and one sentence, over complete seeds. Call it with at least one.

        spread_median, spread_worst: largest minus smallest over the seeds. spread_photograph: the median over the
        photographs of each one's largest minus smallest. spread_of_loss: how far the seeds' mean 1 - r lie apart, as a
        share of their mean. overlap: mean share of photographs two draws have in common.
        """
        held = len(self.facts["held_out"])
        done = [row for row in self.seeds if len(row.r) == held]
        table = np.array([row.values for row in done], np.float64)  # (seeds, photographs)
        medians, worsts = [row.median for row in done], [row.worst for row in done]
        losses = [row.mean_error for row in done]
        failed = [row.seed for row in done if not _holds(row, gates)]
        loss = float(np.mean(losses))
        return {
            "seeds": len(done),
            "median": [min(medians), max(medians)],
            "worst": [min(worsts), max(worsts)],
            "spread_median": max(medians) - min(medians),
            "spread_worst": max(worsts) - min(worsts),
            "spread_photograph": float(np.median(np.ptp(table, axis=0))),
            "mean_loss": loss,
            "spread_of_loss": (max(losses) - min(losses)) / loss if loss > 0 else 0.0,
            "overlap": _overlap([set(row.drawn) for row in done]),
            "failed_seeds": failed,
            "sentence": _sentence(done, failed, gates),
        }


def _holds(row: SeedRow, gates: Gates) -> bool:
    least, lowest = gates.min_median_correlation, gates.min_worst_correlation
    return (least is None or row.median >= least) and (lowest is None or row.worst >= lowest)


def _overlap(draws: list[set[str]]) -> float | None:
    """None for a single draw."""
    pairs = [(a, b) for i, a in enumerate(draws) for b in draws[i + 1 :]]
    return float(np.mean([len(a & b) / max(1, min(len(a), len(b))) for a, b in pairs])) if pairs else None


def _sentence(done: list[SeedRow], failed: list[int], gates: Gates) -> str:
    asked = (
        f"the gates of {gates.precision} (median {gates.min_median_correlation}, worst {gates.min_worst_correlation})"
    )
    spread = max(row.median for row in done) - min(row.median for row in done)
    if not failed:
        return f"all {len(done)} seeds hold {asked}; their medians lie {spread:.1e} apart"
    if len(failed) == len(done):
        return f"none of {len(done)} seeds holds {asked}: not a matter of which photographs calibrate"
    names = ", ".join(map(str, failed))
    return f"seed {names} of {len(done)} fails {asked}: which photographs calibrate decides; use more of them"


def read_spread(path: Path) -> SeedSpread:
    """Raises DataError when the file is damaged or not one of these."""
    try:
        return SeedSpread.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(
            f"{path}: no figures of seeds ({first})", hint="delete it, or name another file with --out"
        ) from error


def write_spread(value: SeedSpread, path: Path) -> None:
    """Atomically."""
    write_json(path, value.model_dump(mode="json"))


def finite_or_none(r: float) -> float | None:
    """For SeedRow.r."""
    return r if math.isfinite(r) else None
