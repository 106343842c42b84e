"""Looking inside a saved artifact: its tensors in order, and their values on one photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datk.depth.runner import ImageU8


@dataclass(frozen=True)
class TracedTensor:
    """One value an artifact computes."""

    name: str
    """Unique within the artifact."""
    shape: tuple[int, ...]
    """As the file declares it; a runtime may find another when the file is wrong."""
    made_by: str
    """Operator type, in the format's own words."""
    reads: tuple[str, ...]
    """Names of the computed tensors (and the input) its operator reads; constants are left out."""
    step: float = 0.0
    """What one step of its integers stands for; 0: it is stored in float."""


class Trace(Protocol):
    """An artifact opened for looking inside. `label` says who computed, as a Runner's does."""

    label: str
    input_name: str
    output_name: str
    tensors: tuple[TracedTensor, ...]
    """Everything that depends on the image, in an order in which it can be computed; the output is among them."""

    def run(self, image: ImageU8, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Values of the named tensors on image, (h, w, 3) uint8 RGB of the bucket; quantised ones in real numbers.

        Raises DataError on another image, TargetError when the runtime refuses the file.
        """
        ...

    def close(self) -> None:
        """Free what the runtime holds. Safe to call twice."""
        ...


def depends_on(tensors: Sequence[TracedTensor], input_name: str) -> tuple[TracedTensor, ...]:
    """Those of tensors, in order, that the input reaches."""
    reached = {input_name}
    kept = []
    for tensor in tensors:
        if any(name in reached for name in tensor.reads):
            reached.add(tensor.name)
            kept.append(tensor)
    return tuple(kept)
