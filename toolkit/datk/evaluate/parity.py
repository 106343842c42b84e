"""How far an artifact's maps are from its reference net's, photograph by photograph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from datk.data.photos import PhotoFile
from datk.depth.io_spec import DepthKind, Size
from datk.depth.preprocess import bucket_image, read_image
from datk.depth.runner import DepthMap, ImageU8, Runner, predict_photo
from datk.errors import DataError, UsageError
from datk.evaluate.boundary import Contours, contours
from datk.evaluate.metrics import ordinal_agreement, reference_depths, score_reference


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageParity(_Record):
    """One photograph. None means undefined; `undefined` then says why."""

    name: str
    correlation: float | None
    """Pearson over all pixels, before any alignment, sign kept."""
    abs_rel: float | None
    """After scale-shift alignment in disparity; metric depth is not aligned."""
    delta1: float | None
    ordinal: float | None
    """Share of 2,000 random pixel pairs, clearly apart in the reference, that come out in its order."""
    max_error_rel: float | None
    """max |candidate - reference| / max |reference|, raw values."""
    undefined: str = ""
    boundary_f1: float | None = None
    """Depth edges against the reference's (evaluate.boundary), both as compared for abs_rel; None also where not asked
    for, or where the reference has no edge."""
    boundary_recall: float | None = None


class Parity(_Record):
    """All photographs, and their summary. Figures of undefined images are left out and the images named."""

    candidate: str
    candidate_label: str
    reference: str
    reference_label: str
    depth_kind: DepthKind
    compared_at: Literal["bucket", "photo"]
    """`bucket`: both nets saw the same 8-bit image. `photo`: buckets differ, both resized to the photograph."""
    images: tuple[ImageParity, ...]

    @property
    def n(self) -> int:
        return len(self.images)

    @property
    def undefined(self) -> tuple[ImageParity, ...]:
        return tuple(i for i in self.images if i.correlation is None)

    @property
    def median_correlation(self) -> float | None:
        values = [i.correlation for i in self.images if i.correlation is not None]
        return float(np.median(values)) if values else None

    @property
    def worst(self) -> ImageParity | None:
        """The defined image with the smallest correlation."""
        defined = [i for i in self.images if i.correlation is not None]
        return min(defined, key=lambda i: i.correlation or 0.0) if defined else None

    @property
    def mean_abs_rel(self) -> float | None:
        return _mean([i.abs_rel for i in self.images])

    @property
    def mean_delta1(self) -> float | None:
        return _mean([i.delta1 for i in self.images])

    @property
    def mean_ordinal(self) -> float | None:
        return _mean([i.ordinal for i in self.images])

    @property
    def mean_boundary_f1(self) -> float | None:
        return _mean([i.boundary_f1 for i in self.images])

    @property
    def mean_boundary_recall(self) -> float | None:
        return _mean([i.boundary_recall for i in self.images])

    @property
    def max_error_rel(self) -> float | None:
        """The largest of all images."""
        values = [i.max_error_rel for i in self.images if i.max_error_rel is not None]
        return max(values) if values else None

    def summary(self) -> dict[str, float | int | str | None]:
        """Flat figures for a manifest or a table."""
        worst = self.worst
        return {
            "n": self.n,
            "n_undefined": len(self.undefined),
            "median_correlation": self.median_correlation,
            "worst_correlation": worst.correlation if worst else None,
            "worst_image": worst.name if worst else None,
            "mean_abs_rel": self.mean_abs_rel,
            "mean_delta1": self.mean_delta1,
            "mean_ordinal": self.mean_ordinal,
            "max_error_rel": self.max_error_rel,
            "compared_at": self.compared_at,
        }


def compare(
    candidate: Runner,
    reference: Runner,
    photos: Sequence[PhotoFile | Path],
    *,
    edges: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """Run both over the photographs and compare each pair of maps.

    Equal buckets: both get the very same 8-bit bucket image and maps are compared at the bucket. Otherwise both maps
    are resized to the photograph's size. edges: compare depth edges as well. Raises UsageError when the two return
    different quantities, DataError when there is no photograph or one cannot be read.
    """
    if candidate.depth_kind != reference.depth_kind:
        raise UsageError(
            f"{candidate.name} returns {candidate.depth_kind}, {reference.name} returns {reference.depth_kind}",
            hint="compare nets of one kind: relative with relative, metric with metric",
        )
    if not photos:
        raise DataError("no photographs to compare on", hint="name a folder with pictures, or use the built-in ones")
    same_bucket = tuple(candidate.input_size) == tuple(reference.input_size)
    images: list[ImageParity] = []
    for done, photo in enumerate(photos, start=1):
        image = photo.read() if isinstance(photo, PhotoFile) else read_image(photo)
        a, b = _maps(candidate, reference, image, same_bucket=same_bucket)
        images.append(compare_maps(a, b, name=photo.name, kind=reference.depth_kind, edges=edges))
        if progress is not None:
            progress(done, len(photos))
    return Parity(
        candidate=candidate.name,
        candidate_label=candidate.label,
        reference=reference.name,
        reference_label=reference.label,
        depth_kind=reference.depth_kind,
        compared_at="bucket" if same_bucket else "photo",
        images=tuple(images),
    )


def compare_maps(
    candidate: DepthMap, reference: DepthMap, *, name: str, kind: DepthKind, edges: bool = False
) -> ImageParity:
    """Compare two (H, W) maps of one quantity. edges: their depth edges as well."""
    score = score_reference(candidate, reference, kind=kind)
    a, b = candidate.astype(np.float64), reference.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = float(np.abs(a - b).max() / np.abs(b).max())
    reason = score.undefined or ("" if math.isfinite(score.correlation) else "correlation is undefined")
    found = Contours(math.nan, math.nan)
    if edges and not score.undefined:
        found = contours(*reference_depths(candidate, reference, score, kind=kind))
    return ImageParity(
        name=name,
        boundary_f1=_finite(found.f1),
        boundary_recall=_finite(found.recall),
        correlation=_finite(score.correlation),
        abs_rel=_finite(score.abs_rel),
        delta1=_finite(score.delta1),
        ordinal=_finite(ordinal_agreement(candidate, reference)),
        max_error_rel=_finite(error),
        undefined=reason,
    )


class FloatPathRunner(Protocol):
    """A runner that can also take a photograph in float: evaluate.torch_runner.TorchRunner."""

    name: str
    label: str
    depth_kind: DepthKind
    input_size: Size

    def predict(self, image: ImageU8) -> DepthMap: ...

    def predict_float(self, photo: ImageU8) -> DepthMap: ...


def compare_input_paths(
    runner: FloatPathRunner,
    photos: Sequence[PhotoFile | Path],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Parity:
    """What the 8-bit bucket image costs: the net on it (candidate) against itself on the float-resized photograph."""
    if not photos:
        raise DataError("no photographs to compare on", hint="name a folder with pictures, or use the built-in ones")
    images: list[ImageParity] = []
    for done, photo in enumerate(photos, start=1):
        image = photo.read() if isinstance(photo, PhotoFile) else read_image(photo)
        small = runner.predict(bucket_image(image, runner.input_size))
        images.append(compare_maps(small, runner.predict_float(image), name=photo.name, kind=runner.depth_kind))
        if progress is not None:
            progress(done, len(photos))
    return Parity(
        candidate=f"{runner.name}, 8-bit input",
        candidate_label=runner.label,
        reference=f"{runner.name}, float input",
        reference_label=runner.label,
        depth_kind=runner.depth_kind,
        compared_at="bucket",
        images=tuple(images),
    )


def _maps(candidate: Runner, reference: Runner, image: ImageU8, *, same_bucket: bool) -> tuple[DepthMap, DepthMap]:
    if not same_bucket:
        return predict_photo(candidate, image), predict_photo(reference, image)
    small = bucket_image(image, reference.input_size)
    return candidate.predict(small), reference.predict(small)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return float(np.mean(defined)) if defined else None
