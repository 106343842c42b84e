"""Quality of many labels in a few figures, from their manifest lines alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DECIMALS = 6


@dataclass(frozen=True)
class QualitySummary:
    """Over labels, none of which carries a unit: every figure is a share of a map's own range or of its pixels."""

    labels: int
    degenerate: int
    """Labels nothing can be learnt from (see datk.depth.label_quality); kept, counted, never trained on."""
    spread_median: float | None
    spread_p05: float | None
    saturated_median: float | None
    saturated_p95: float | None
    flip_checked: int
    """Labels whose photograph was also predicted mirrored."""
    flip_error_median: float | None
    """Median of the mean |label - mirrored label|, as a share of the range."""
    flip_error_p95: float | None


class QualityTally:
    """Collects figures shard by shard, in a few bytes a label."""

    def __init__(self) -> None:
        self._spread, self._saturated, self._flip = array("d"), array("d"), array("d")
        self._degenerate = 0

    def add(self, labels: Iterable[dict[str, Any]]) -> None:
        """labels: manifest lines."""
        for line in labels:
            self._spread.append(line["spread"])
            self._saturated.append(line["saturated"])
            self._degenerate += "degenerate" in line
            if "flip_error" in line:
                self._flip.append(line["flip_error"])

    def summary(self) -> QualitySummary:
        """None where there is nothing to take a median of."""
        return QualitySummary(
            labels=len(self._spread),
            degenerate=self._degenerate,
            spread_median=_percentile(self._spread, 50),
            spread_p05=_percentile(self._spread, 5),
            saturated_median=_percentile(self._saturated, 50),
            saturated_p95=_percentile(self._saturated, 95),
            flip_checked=len(self._flip),
            flip_error_median=_percentile(self._flip, 50),
            flip_error_p95=_percentile(self._flip, 95),
        )


def summary_of(labels: Iterable[dict[str, Any]]) -> QualitySummary:
    """Of manifest lines."""
    tally = QualityTally()
    tally.add(labels)
    return tally.summary()


def _percentile(values: Sequence[float], q: float) -> float | None:
    return round(float(np.percentile(values, q)), DECIMALS) if len(values) else None
