"""The one protocol behind which every teacher labels, ours or not, and what turns its answer into disparity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import DepthKind, Size
from datk.depth.preprocess import resize_output
from datk.depth.runner import DepthMap, ImageU8, check_bucket_image

NEAREST_M = 1e-2
"""Metric depth below it counts as this near, so that its inverse stays finite."""
FAR_OVER_NEAR = 4.0
"""Assumed ratio of the farthest to the nearest depth where a teacher gives depth up to scale and shift alone.

The geometric mean over the four real scenes of `real4` is 4.2 (98th over 2nd percentile; 2.5 to 6.4)."""

View = tuple[float, float, float, float]
"""(top, left, bottom, right) of the photograph in a map, as fractions of its height and width: a padding's inside."""
WHOLE: View = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Prepared:
    """One photograph as a teacher's net takes it. pixels: (3, h, w) float32. view: where the photograph lies in it."""

    pixels: NDArray[np.float32]
    view: View = WHOLE


class Teacher(Protocol):
    """Something that labels photographs, in batches, at sizes of its own.

    `source` is what was asked for, `digest` of the weights, `licence` theirs, `depth_kind` what predict returns,
    `identity` all else that changes its bytes (JSON), `notes` what its user must know, in words, `device` (cpu, cuda)
    and `precision` (fp32, bf16) how it computes.
    """

    name: str
    source: str
    digest: str
    licence: str
    depth_kind: DepthKind
    identity: dict[str, Any]
    notes: tuple[str, ...]
    device: str
    precision: str

    def prepare(self, photo: ImageU8) -> Prepared:
        """photo: (H, W, 3) uint8 RGB of any size. Called from several threads."""
        ...

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """batch: (B, 3, h, w) prepared pixels of one size. Returns (B, h', w') float32 in depth_kind."""
        ...

    def close(self) -> None:
        """Free what the net holds. Safe to call twice."""
        ...


def disparity_from(maps: NDArray[np.float32], kind: DepthKind) -> NDArray[np.float32]:
    """(B, h, w) of a kind -> (B, h, w) float32 disparity up to scale and shift; larger is nearer.

    Metric depth is inverted exactly. Depth known up to scale and shift alone has no exact disparity: its range is
    taken to span near to FAR_OVER_NEAR times near, which keeps the order of any two pixels and assumes their spacing.
    """
    if kind is DepthKind.DISPARITY_AFFINE_INVARIANT:
        return maps
    if kind is DepthKind.DEPTH_METRIC_M:
        return np.asarray(1 / np.maximum(maps, NEAREST_M), np.float32)
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    unit = (maps - low) / np.where(high > low, high - low, 1)  # (B, h, w), 0 nearest
    return np.asarray(1 / (1 + unit * (FAR_OVER_NEAR - 1)), np.float32)


def crop_to_view(depth: DepthMap, view: View) -> DepthMap:
    """The part of a (h, w) map that shows the photograph, sampled bilinearly at pixel centres; WHOLE: as it is."""
    if view == WHOLE:
        return depth
    h, w = depth.shape
    top, left, bottom, right = view
    rows = _inside(top * h, bottom * h, h)
    columns = _inside(left * w, right * w, w)
    lower_row, lower_column = np.floor(rows).astype(np.intp), np.floor(columns).astype(np.intp)
    upper_row, upper_column = np.minimum(lower_row + 1, h - 1), np.minimum(lower_column + 1, w - 1)
    part_row, part_column = (rows - lower_row)[:, None], columns - lower_column
    wide = depth[lower_row] * (1 - part_row) + depth[upper_row] * part_row
    return np.asarray(wide[:, lower_column] * (1 - part_column) + wide[:, upper_column] * part_column, np.float32)


def _inside(begin: float, end: float, length: int) -> NDArray[np.float64]:
    """Positions, in pixel indices, of round(end - begin) samples spread over [begin, end)."""
    count = max(1, round(end - begin))
    centres = begin + (np.arange(count) + 0.5) * (end - begin) / count - 0.5
    return np.clip(centres, 0, length - 1)


class TeacherRunner:
    """A teacher dressed as a Runner: benchmarks and reports ask it like any artifact.

    as_disparity: return disparity whatever the teacher gives, so that a student of disparity can be compared with it.
    """

    def __init__(self, teacher: Teacher, input_size: Size, *, name: str, as_disparity: bool = False) -> None:
        self._teacher = teacher
        self._convert = as_disparity and teacher.depth_kind is not DepthKind.DISPARITY_AFFINE_INVARIANT
        self.name = name
        self.label = f"{teacher.name}{' as disparity' if self._convert else ''}"
        self.input_size = input_size
        self.depth_kind = DepthKind.DISPARITY_AFFINE_INVARIANT if self._convert else teacher.depth_kind

    def predict(self, image: ImageU8) -> DepthMap:
        check_bucket_image(image, self.input_size)
        return self.predict_photo(image)

    def predict_photo(self, photo: ImageU8) -> DepthMap:
        """(H, W, 3) uint8 RGB of any size -> (H, W) float32."""
        prepared = self._teacher.prepare(photo)
        maps = self._teacher.predict(prepared.pixels[None])
        if self._convert:
            maps = disparity_from(maps, self._teacher.depth_kind)
        return resize_output(crop_to_view(maps[0], prepared.view), (photo.shape[0], photo.shape[1]))

    def close(self) -> None:
        self._teacher.close()
