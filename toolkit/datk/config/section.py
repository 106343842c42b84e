"""What the recipe's learning sections have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from datk.depth.io_spec import PATCH

NetSize = Literal["tiny", "small", "base", "large", "giant"]
StudentSize = Literal["mobile", "tiny", "small", "base", "large", "giant"]
"""mobile: convolutions alone (datk.models.mobile); the others have a DINOv2 encoder."""


def _two_nearest(side: int) -> str:
    low = max(PATCH, side // PATCH * PATCH)
    return f"{side} is not a multiple of {PATCH}; nearest are {low} and {low + PATCH}"


def size_from_value(value: Any) -> Any:
    """126, "126", "126x154" and [126, 154] all mean a (height, width); anything else is left for the type check."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, str):
        parts = value.lower().split("x")
        if len(parts) <= 2 and all(p.strip().isdigit() for p in parts):
            return (int(parts[0]), int(parts[-1]))
        raise ValueError(f"'{value}' is not a size; write 518 or HxW such as 392x518")
    return tuple(value) if isinstance(value, list) else value


def _check_bucket(size: tuple[int, int]) -> tuple[int, int]:
    for side in size:
        if side <= 0 or side % PATCH:
            raise ValueError(_two_nearest(side))
    return size


Bucket = Annotated[tuple[int, int], BeforeValidator(size_from_value), AfterValidator(_check_bucket)]
"""(height, width) in pixels, both multiples of 14."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PathText = Annotated[Path, Field(strict=False)]


class StrictSection(BaseModel):
    """No unknown keys, no coercion, immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
