"""Everything a device has to predict, as one array: photographs and bench images at the artifact's bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import atomic_path, sha256_file
from datk.depth.io_spec import DepthKind, Size
from datk.depth.preprocess import bucket_image, read_image
from datk.depth.runner import DepthMap, ImageU8, check_bucket_image
from datk.errors import DataError
from datk.evaluate.benchmarks.pairs import PairSet
from datk.farm.job import Inputs
from datk.pipeline.measuring import Setting


@dataclass(frozen=True)
class InputSet:
    """The file that is sent, and which row of it a bucket image is."""

    inputs: Inputs
    rows: dict[bytes, int]
    """Digest of a bucket image -> row."""


def input_set(setting: Setting, size: Size, folder: Path) -> InputSet:
    """Write folder/SHA256.npy, (n, h, w, 3) uint8, each picture once, unless it is there. Raises DataError."""
    rows: dict[bytes, int] = {}
    images: list[NDArray[np.uint8]] = []
    for path in _paths(setting):
        image = bucket_image(read_image(path), size)
        if (key := image_key(image)) not in rows:
            rows[key] = len(images)
            images.append(image)
    stack = np.stack(images)
    digest = hashlib.sha256(str(stack.shape).encode() + stack.tobytes()).hexdigest()
    path = folder / f"{digest}.npy"
    if not path.is_file():
        with atomic_path(path) as part:
            with part.open("wb") as handle:
                np.save(handle, stack)
    return InputSet(
        Inputs(path=str(path.resolve()), sha256=sha256_file(path), n=len(images), bytes=path.stat().st_size), rows
    )


def image_key(image: ImageU8) -> bytes:
    """Digest of a bucket image's pixels."""
    return hashlib.sha256(str(image.shape).encode() + image.tobytes()).digest()


def _paths(setting: Setting) -> Iterator[Path]:
    yield from setting.photos
    yield from _bench_paths(setting.pairs)


def _bench_paths(pairs: PairSet) -> Iterator[Path]:
    missing = set(pairs.missing)
    yield from (pairs.root / i.path for i in pairs.images if i.path not in missing)
    for extra in pairs.extra_sets.values():
        yield from _bench_paths(extra)


class RecordedRunner:
    """A Runner whose maps a device computed: the one evaluator scores them as it scores any other."""

    def __init__(
        self, *, name: str, label: str, input_size: Size, depth_kind: DepthKind, maps: DepthMap, rows: dict[bytes, int]
    ) -> None:
        self.name = name
        self.label = label
        self.input_size = input_size
        self.depth_kind = depth_kind
        self._maps = maps  # (n, h, w)
        self._rows = rows

    def predict(self, image: ImageU8) -> DepthMap:
        """(h, w, 3) uint8 RGB that was sent -> (h, w) float32. Raises DataError for a picture that was not."""
        check_bucket_image(image, self.input_size)
        row = self._rows.get(image_key(image))
        if row is None:
            raise DataError(f"{self.name}: this picture was not sent to the device", hint="run the farm again")
        return np.asarray(self._maps[row], dtype=np.float32)

    def close(self) -> None:
        """Nothing is held open."""
