"""Several sources read as one, and the pictures of a labelled set as a source."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import cv2
import numpy as np

from datk.data.dataset import AdaptedDataset
from datk.data.sources.base import EncodedSource, ImageSource


class SeveralSources(EncodedSource):
    """Sources put end to end, as the paper does with its eight sets. Keys begin with the part's number: 2/IMAGE."""

    def __init__(self, parts: Sequence[ImageSource], *, name: str) -> None:
        self.parts, self.name = parts, name
        self.ends = np.array(list(accumulate(len(part) for part in parts)), np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self.ends, index, side="right"))
        return part, index - int(self.ends[part - 1] if part else 0)

    def key(self, index: int) -> str:
        part, inner = self._locate(index)
        return f"{part}/{self.parts[part].key(inner)}"

    def encoded(self, index: int) -> bytes:
        part, inner = self._locate(index)
        return self.parts[part].encoded(inner)


class SetImages(EncodedSource):
    """The pictures of a data set with depth, its depth left aside (Table 6 of the paper labels them anew)."""

    def __init__(self, dataset: AdaptedDataset, *, name: str) -> None:
        self.dataset, self.name = dataset, name

    def __len__(self) -> int:
        return len(self.dataset)

    def key(self, index: int) -> str:
        return self.dataset.key(index)

    def encoded(self, index: int) -> bytes:
        """The picture's file; one that lies within a container comes as PNG. Raises DataError."""
        item = self.dataset.items[index]
        if item.image != item.depth:
            return item.image.read_bytes()
        pixels = self.dataset.read(index).image
        return bytes(cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1])
