"""Who answers a benchmark: a runner, seen as maps of named photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from datk.depth.io_spec import DepthKind, Size
from datk.depth.preprocess import bucket_image, resize_output, sample_output
from datk.depth.runner import DepthMap, ImageU8, Runner

BUCKET = "8-bit bucket"


@runtime_checkable
class PhotoRunner(Protocol):
    """A runner with a path of its own from photograph to full-size map, such as the official lower-bound rule."""

    def predict_photo(self, photo: ImageU8) -> DepthMap: ...


@runtime_checkable
class SmallMapRunner(Protocol):
    """A runner with a path of its own whose map, before it is resized to the photograph, can be had."""

    def predict_small(self, photo: ImageU8) -> DepthMap: ...


@runtime_checkable
class NamedRunner(Protocol):
    """Not a net: maps that somebody else computed, found by the image's name."""

    def predict_named(self, key: str, photo: ImageU8) -> DepthMap:
        """key: the image's path in the benchmark. Raises DataError when there is no usable map for it."""
        ...

    def digest_of(self, key: str) -> str:
        """Of the file that answers an image; empty when there is none."""
        ...


class Identity(BaseModel):
    """Who answered and how, as results tell it. Kept with cached answers, so that a net need not be opened again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    label: str
    depth_kind: DepthKind
    path: str
    """From photograph to map, in words."""
    input_size: Size
    """(height, width) of the bucket; says little for a path that is none."""


def identity_of(runner: Runner) -> Identity:
    """The runner's name, label and kind, and which way photographs take through it."""
    if isinstance(runner, NamedRunner):
        path = "maps computed elsewhere"
    elif isinstance(runner, PhotoRunner):
        path = "official float path"
    else:
        path = f"{BUCKET} {'x'.join(map(str, runner.input_size))}"
    return Identity(
        name=runner.name, label=runner.label, depth_kind=runner.depth_kind, path=path, input_size=runner.input_size
    )


def predict_full_size(runner: Runner, photo: ImageU8, *, key: str = "") -> DepthMap:
    """(H, W, 3) uint8 RGB -> (H, W): by name, by the runner's own photo path, or through its bucket."""
    if isinstance(runner, NamedRunner):
        return _fitted(runner.predict_named(key, photo), _size(photo))
    if isinstance(runner, PhotoRunner):
        return runner.predict_photo(photo)
    return resize_output(runner.predict(bucket_image(photo, runner.input_size)), _size(photo))


def values_at(
    runner: Runner, photo: ImageU8, points: Sequence[tuple[int, int]], *, key: str = ""
) -> NDArray[np.float32]:
    """predict_full_size read at (row, column) points, all inside the photograph, without making the large map.

    Bit for bit what the large map holds there. Returns (N,).
    """
    if isinstance(runner, NamedRunner):
        small = runner.predict_named(key, photo)
    elif isinstance(runner, SmallMapRunner):
        small = runner.predict_small(photo)
    elif isinstance(runner, PhotoRunner):
        small = runner.predict_photo(photo)
    else:
        small = runner.predict(bucket_image(photo, runner.input_size))
    return sample_output(small, _size(photo), points)


def _size(photo: ImageU8) -> Size:
    return photo.shape[0], photo.shape[1]


def _fitted(depth: DepthMap, size: Size) -> DepthMap:
    return resize_output(depth, size)
