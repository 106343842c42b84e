"""How large the values inside an artifact become on photographs: whether half precision would hold them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from datk.targets.op_lint import Finding, Rule
from datk.targets.trace import Trace, TracedTensor

HALF_LIMIT = 6.5e4 / 4
"""A quarter of the largest float16: photographs that were not tried reach further than those that were."""
PHOTOS = 4
CHUNK_BYTES = 2**29
"""Values kept at a time: attention at 518x518 holds 45 MB a tensor."""


def largest_values(
    trace: Trace, photos: Sequence[NDArray[np.uint8]], *, without: Collection[str] = ()
) -> dict[str, float]:
    """Tensor -> its largest magnitude over the first PHOTOS of photos; inf where it held an infinity or nan.

    without: operator types that only move values. A tensor the file holds as integers is left out.
    """
    largest: dict[str, float] = {}
    for names in _chunks([t for t in trace.tensors if t.made_by not in without]):
        for photo in photos[:PHOTOS]:
            for name, values in trace.run(photo, names).items():
                here = float(np.abs(values).max(initial=0.0))
                here = here if np.isfinite(here) else float("inf")
                largest[name] = max(largest.get(name, 0.0), here)
    return largest


def too_large_for_half(
    trace: Trace,
    photos: Sequence[NDArray[np.uint8]],
    rule: Rule,
    *,
    without: Collection[str],
    layer: Callable[[str], str] = str,
) -> list[Finding]:
    """A finding for every tensor that reaches HALF_LIMIT, the largest first; trace is closed.

    layer: how a tensor's name is told.
    """
    made = {t.name: t.made_by for t in trace.tensors}
    try:
        ranges = largest_values(trace, photos, without=without)
    finally:
        trace.close()
    return [
        Finding(rule=rule, op=made[name], where=layer(name), said=f"reaches {value:.4g}")
        for name, value in sorted(ranges.items(), key=lambda item: -item[1])
        if value >= HALF_LIMIT
    ]


def _chunks(tensors: Sequence[TracedTensor]) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for tensor in tensors:
        nbytes = 4 * prod(tensor.shape)
        if names and size + nbytes > CHUNK_BYTES:
            yield names
            names, size = [], 0
        names.append(tensor.name)
        size += nbytes
    if names:
        yield names
