"""What depth maps hold: range, percentiles, what is unknown and what is sky; any number of them in fixed memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datk.data.sample import Sample
from datk.errors import DataError

_LOW, _HIGH, _BINS = 1e-4, 1e6, 8192
RESOLUTION = float(np.expm1(np.log(_HIGH / _LOW) / _BINS))
"""Relative width of a bin: percentiles are right within this (0.3 %); minimum and maximum are exact."""
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def quantity(sample: Sample) -> tuple[str, str, NDArray[np.float32]]:
    """(name of the field, its unit, the map) of a sample."""
    if sample.depth_m is not None:
        return "depth_m", "m", sample.depth_m
    if sample.depth_unscaled is not None:
        return "depth_unscaled", "scene units", sample.depth_unscaled
    if sample.disparity_px is not None:
        return "disparity_px", "px", sample.disparity_px
    assert sample.disparity_relative is not None
    return "disparity_relative", "relative", sample.disparity_relative


@dataclass
class MapStatistics:
    """Accumulated over samples of one quantity."""

    name: str = ""
    unit: str = ""
    samples: int = 0
    pixels: int = 0
    unknown: int = 0
    sky: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS + 2, np.int64))

    def add(self, sample: Sample) -> None:
        """Count one sample's pixels. Raises DataError when it holds another quantity than those before."""
        name, unit, values = quantity(sample)
        if self.samples and name != self.name:
            raise DataError(f"{sample.name}: holds {name}, those before hold {self.name}")
        self.name, self.unit = name, unit
        known = values[sample.valid & ~sample.sky].astype(np.float64)
        self.samples += 1
        self.pixels += values.size
        self.sky += int(sample.sky.sum())
        self.unknown += int((~sample.valid).sum())
        if known.size:
            self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))
            place = np.log(np.maximum(known, 1e-30) / _LOW) / np.log(_HIGH / _LOW) * _BINS
            self.bins += np.bincount(np.clip(place + 1, 0, _BINS + 1).astype(np.int64), minlength=_BINS + 2)

    def percentile(self, percent: float) -> float | None:
        """Value that `percent` of the known pixels do not exceed, within RESOLUTION; None without a known pixel."""
        total = int(self.bins.sum())
        if total == 0:
            return None
        place = int(np.searchsorted(np.cumsum(self.bins), percent / 100 * total))
        middle = _LOW * float(np.exp((place - 0.5) / _BINS * np.log(_HIGH / _LOW)))
        return min(max(middle, self.low), self.high)

    def summary(self) -> dict[str, float | str | int | None]:
        """Figures by name, for people and for JSON."""
        known = self.bins.sum() > 0
        out: dict[str, float | str | int | None] = {
            "quantity": self.name,
            "unit": self.unit,
            "samples": self.samples,
            "unknown_fraction": self.unknown / self.pixels if self.pixels else None,
            "sky_fraction": self.sky / self.pixels if self.pixels else None,
            "min": self.low if known else None,
        }
        out |= {f"p{percent}": self.percentile(percent) for percent in PERCENTILES}
        out["max"] = self.high if known else None
        return out
