"""Where a runtime spends its time, operator by operator: in integers, in floats, in going from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["integer", "float", "convert", "move"]
"""integer: arithmetic on integers. float: anything that takes or gives floats. convert: quantise and dequantise.
move: reshapes and transposes of integers."""


@dataclass(frozen=True)
class OpTimes:
    """Milliseconds a run, by kind and by operator."""

    by_kind: Mapping[Kind, float]
    by_op: Mapping[str, float]
    runs: int

    @property
    def total_ms(self) -> float:
        return sum(self.by_kind.values())

    def share(self, kind: Kind) -> float:
        """0..1 of the time spent in operators. Raises ValueError when no operator took any time."""
        if not self.total_ms > 0:
            raise ValueError("no operator took any time")
        return self.by_kind.get(kind, 0.0) / self.total_ms
