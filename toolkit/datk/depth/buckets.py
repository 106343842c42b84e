"""Which of several fixed input sizes a photograph goes to, and what that costs it. The one rule for predict, validate
and every kit: nearest in log aspect, then a plain resize, no letterbox (padding is seen by every token of a ViT)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from datk.depth.io_spec import PATCH, Size

WARN_STRETCH = 0.10
"""Share by which one axis may be stretched against the other before it is said."""
_EQUAL = 1e-9


@dataclass(frozen=True)
class Fit:
    """A photograph in a bucket."""

    bucket: Size
    """(height, width)."""
    stretch: float
    """How much one axis is stretched against the other: 0 keeps the aspect, 0.25 is a quarter."""

    @property
    def warning(self) -> str | None:
        """A sentence for the user beyond 10 %, else None."""
        if self.stretch <= WARN_STRETCH + _EQUAL:
            return None
        h, w = self.bucket
        return f"stretched by {100 * self.stretch:.0f} % to fit {h}x{w}; export a size nearer to its aspect"


def choose_bucket(photo: Size, buckets: Sequence[Size]) -> Fit:
    """The bucket for a photograph of (height, width): nearest log(height/width); of equally near ones the larger.

    Raises ValueError without buckets or for sizes that are not positive.
    """
    if not buckets or min(*photo, *(side for bucket in buckets for side in bucket)) <= 0:
        raise ValueError(f"a photograph of {photo} has no place among {list(buckets)}")
    nearest = min(_distance(photo, bucket) for bucket in buckets)
    equal = [bucket for bucket in buckets if _distance(photo, bucket) <= nearest + _EQUAL]
    bucket = max(equal, key=lambda b: (b[0] * b[1], b))
    return Fit(bucket, math.expm1(_distance(photo, bucket)))


def native_size(photo: Size, area: int) -> Size:
    """The (height, width) in multiples of 14 with the photograph's aspect and about `area` pixels.

    What a bucket of that many pixels would be if it were made for this photograph.
    """
    scale = math.sqrt(area / (photo[0] * photo[1]))
    height, width = (max(1, round(side * scale / PATCH)) * PATCH for side in photo)
    return height, width


def _distance(photo: Size, bucket: Size) -> float:
    return abs(math.log(photo[0] / photo[1]) - math.log(bucket[0] / bucket[1]))
