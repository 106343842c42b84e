"""The same values in another order: how compilers store what torch has as (1, C, H, W) or (1, heads, N, d)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

MAX_RANK = 4
"""Beyond this only channels first and last are tried: permutations would be too many to mean anything."""

Layout = tuple[int, ...]
"""Axes of the stored tensor, sides of 1 left out, in the order the wanted one has them; () is "as it is"."""
CHANNELS_FIRST: Layout = (-1,)
"""Stored (..., C), wanted (C, ...), whatever the number of spatial axes on either side."""
CHANNELS_LAST: Layout = (-2,)
"""Stored (C, ...), wanted (..., C)."""


def layouts(stored: tuple[int, ...], wanted: tuple[int, ...]) -> Iterator[Layout]:
    """Ways in which a tensor stored with that shape can hold one of the wanted shape; "as it is" comes first.

    Both hold equally many numbers; nothing is yielded otherwise.
    """
    if np.prod(stored, dtype=np.int64) != np.prod(wanted, dtype=np.int64):
        return
    yield ()
    a, b = _squeezed(stored), _squeezed(wanted)
    if len(a) < 2 or len(b) < 2:
        return
    if a[-1] == b[0]:
        yield CHANNELS_FIRST
    if a[0] == b[-1]:
        yield CHANNELS_LAST
    if len(a) == len(b) and 3 <= len(a) <= MAX_RANK and sorted(a) == sorted(b):
        for order in permutations(range(len(a))):
            if order != tuple(range(len(a))) and tuple(a[i] for i in order) == b:
                yield order


def as_wanted(values: NDArray[np.float32], layout: Layout, wanted: tuple[int, ...]) -> NDArray[np.float32]:
    """values, stored in layout, in the wanted shape and order; a view where NumPy can give one."""
    if layout == ():
        return values.reshape(wanted)
    if layout == CHANNELS_FIRST:
        return values.reshape(-1, _squeezed(values.shape)[-1]).T.reshape(wanted)
    if layout == CHANNELS_LAST:
        return values.reshape(_squeezed(values.shape)[0], -1).T.reshape(wanted)
    return values.reshape(_squeezed(values.shape)).transpose(layout).reshape(wanted)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(side) for side in shape if side != 1)
