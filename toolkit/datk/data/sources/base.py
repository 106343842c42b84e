"""What a source of unlabelled images is: a length, a name and the bytes of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datk.depth.preprocess import decode_image
from datk.measure.phases import phase


class ImageSource(Protocol):
    """Images that can be read by number, in any order, from several threads or processes.

    The order is fixed: sorted within a folder or archive, archives in the order named. Neighbours in number lie near
    each other on disk, so ranges of numbers make good shards.
    """

    @property
    def name(self) -> str:
        """What was opened, for manifests: the spec."""

    def __len__(self) -> int: ...

    def key(self, index: int) -> str:
        """Unique name of an image within the source: a relative path, ARCHIVE/MEMBER or DATABASE/KEY."""

    def encoded(self, index: int) -> bytes:
        """The image's bytes as stored (JPEG, PNG, WebP, ...). Raises DataError naming what cannot be read."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright. Raises DataError naming an image that cannot be decoded."""


class EncodedSource(ABC):
    """A source that only has to find bytes; decoding is the same for all."""

    name: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def key(self, index: int) -> str: ...

    @abstractmethod
    def encoded(self, index: int) -> bytes: ...

    def read(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; see datk.depth.preprocess.decode_image."""
        with phase("read"):
            data = self.encoded(index)
        return decode_image(data, name=f"{self.name}: {self.key(index)}")
