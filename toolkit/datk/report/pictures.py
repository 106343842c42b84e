"""The picture grid: photo, teacher, student and every artifact, with error maps on one common scale."""

from __future__ import annotations

import base64
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.align import fit_scale_shift
from datk.depth.io_spec import DepthKind
from datk.report.colour import colourise, colourise_error
from datk.report.summary import Artifact, RunSummary

_BUDGET_BYTES = 3_600_000
"""JPEG bytes of all pictures together; base64 adds a third, so the page stays well below 6 MB."""
_SIDES = (288, 224, 176, 128, 96, 64)
_QUALITY = 84
_SCALES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""A tenth of the map's range is broken at a glance: beyond it the scale would only hide the others' errors."""


@dataclass(frozen=True)
class Picture:
    """One image of the grid, as a data URI."""

    caption: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Compared:
    """An artifact's map of one photo, and how far it is from the float student."""

    caption: str
    verdict: str
    depth: Picture
    error: Picture | None
    """None when there is no float map to compare with."""
    mean_error: float | None
    """Mean absolute error after scale-shift, as a fraction of the float map's range."""


@dataclass(frozen=True)
class PhotoRow:
    """One photograph and all that was predicted from it."""

    name: str
    shown: tuple[Picture, ...]
    artifacts: tuple[Compared, ...]


@dataclass(frozen=True)
class Grid:
    """All rows. full_scale: the error, as a fraction of the float map's range, painted brightest in every row."""

    rows: tuple[PhotoRow, ...]
    full_scale: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Sample:
    photo: NDArray[np.uint8]
    prediction: NDArray[np.float32]
    reference: NDArray[np.float32] | None
    """The float student's map; None where the prediction itself is the student's, or none was made."""
    teacher: NDArray[np.float32] | None


def _load(path: Path) -> dict[str, _Sample]:
    """samples.npz by photo name. Raises ValueError, KeyError, OSError or BadZipFile on a damaged file."""
    samples = {}
    with np.load(path, allow_pickle=False) as data:
        for index, name in enumerate(data["names"].tolist()):
            photo = data[f"photo_{index}"]
            if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
                raise ValueError(f"photo_{index} is {photo.dtype} {photo.shape}, expected uint8 (H, W, 3)")
            prediction, reference = data[f"prediction_{index}"], data.get(f"reference_{index}")
            if prediction.ndim != 2 or (reference is not None and prediction.shape != reference.shape):
                other = "" if reference is None else f", reference_{index} {reference.shape}"
                raise ValueError(f"prediction_{index} is {prediction.shape}{other}")
            teacher = data.get(f"teacher_{index}")
            samples[str(name)] = _Sample(photo, prediction, reference, teacher)
    return samples


def relative_error(prediction: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """|scale * prediction + shift - reference| / (range of reference), scale >= 0 and shift by least squares.

    Both (H, W) of one quantity; pixels that are not finite in either give NaN. A prediction that is constant or
    runs the wrong way is fitted with scale 0: a mirrored map must look as wrong as it is. A constant reference
    is divided by its magnitude, or by 1 when it is zero. Returns (H, W) float64.
    """
    mask = np.isfinite(prediction) & np.isfinite(reference)
    error = np.full(reference.shape, np.nan)
    if not mask.any():
        return error
    truth = reference.astype(np.float64)
    scale, shift = (float(value) for value in fit_scale_shift(prediction.astype(np.float64), truth, mask))
    if not scale > 0:
        scale, shift = 0.0, float(truth[mask].mean())
    span = float(truth[mask].max() - truth[mask].min()) or float(np.abs(truth[mask]).max()) or 1.0
    error[mask] = np.abs(scale * prediction.astype(np.float64)[mask] + shift - truth[mask]) / span
    return error


def _jpeg(image: NDArray[np.uint8], side: int) -> tuple[bytes, int, int]:
    """image: (H, W, 3) uint8 RGB, made at most `side` pixels wide or high. Returns bytes, width, height."""
    import cv2

    height, width = image.shape[:2]
    shrink = min(1.0, side / max(height, width))
    if shrink < 1.0:
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return encoded.tobytes(), image.shape[1], image.shape[0]


def _picture(image: NDArray[np.uint8], caption: str, side: int) -> Picture:
    data, width, height = _jpeg(image, side)
    return Picture(caption, "data:image/jpeg;base64," + base64.b64encode(data).decode(), width, height)


def common_scale(errors: list[NDArray[np.float64]]) -> float:
    """The smallest round full scale that holds 99 % of the pixels of every error map, at most a tenth."""
    highest = max((float(np.quantile(e[np.isfinite(e)], 0.99)) for e in errors if np.isfinite(e).any()), default=0.0)
    return next((scale for scale in _SCALES if highest <= scale), _SCALES[-1])


def _row(
    name: str,
    samples: dict[str, _Sample],
    errors: dict[tuple[str, str], NDArray[np.float64]],
    known: dict[str, Artifact],
    kind: DepthKind,
    full_scale: float,
    side: int,
) -> PhotoRow:
    first = samples.get("student") or next(iter(samples.values()))
    shown = [_picture(first.photo, "photo", side)]
    teacher = next((sample.teacher for sample in samples.values() if sample.teacher is not None), None)
    if teacher is not None:
        shown.append(_picture(colourise(teacher, kind), "teacher", side))
    student = next((s.reference for s in samples.values() if s.reference is not None), None)
    if student is None and "student" in samples:
        student = samples["student"].prediction
    if student is not None:
        shown.append(_picture(colourise(student, kind), "student, float", side))
    compared = []
    for key, sample in samples.items():
        if key == "student":
            continue
        artifact, error = known[key], errors.get((key, name))
        caption = f"{artifact.target} {artifact.precision}"
        compared.append(
            Compared(
                caption=caption,
                verdict=artifact.verdict,
                depth=_picture(colourise(sample.prediction, kind), caption, side),
                error=None
                if error is None
                else _picture(colourise_error(error, full_scale=full_scale), f"error of {caption}", side),
                mean_error=float(np.nanmean(error)) if error is not None and np.isfinite(error).any() else None,
            )
        )
    return PhotoRow(name, tuple(shown), tuple(compared))


def _bytes(rows: tuple[PhotoRow, ...]) -> int:
    pictures = [p for row in rows for p in (*row.shown, *(q for c in row.artifacts for q in (c.depth, c.error)))]
    return sum(len(picture.uri) for picture in pictures if picture) * 3 // 4


def picture_grid(run_dir: Path, summary: RunSummary, *, max_photos: int = 6) -> Grid:
    """Read every samples.npz below run_dir and paint the grid, small enough for one page.

    Maps are coloured by the contract's depth kind (relative disparity when no contract is known), each between
    its own extremes; all error maps share one scale. A damaged samples.npz becomes a note, not a crash.
    """
    students = [summary.student] if summary.student else []
    known = {artifact.id: artifact for artifact in (*students, *summary.artifacts)}
    notes: list[str] = []
    by_photo: dict[str, dict[str, _Sample]] = {}
    for key in known:
        path = run_dir / f"60-validate-{key}" / "samples.npz"
        if not path.is_file():
            continue
        try:
            for name, sample in _load(path).items():
                by_photo.setdefault(name, {})[key] = sample
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            notes.append(f"{path.parent.name}/{path.name}: pictures not shown ({type(error).__name__}: {error})")
    by_photo = dict(list(by_photo.items())[:max_photos])
    kind = next((a.contract.depth_kind for a in known.values() if a.contract), DepthKind.DISPARITY_AFFINE_INVARIANT)
    errors = {
        (key, name): relative_error(sample.prediction, sample.reference)
        for name, samples in by_photo.items()
        for key, sample in samples.items()
        if key != "student" and sample.reference is not None
    }
    full_scale = common_scale(list(errors.values()))
    rows: tuple[PhotoRow, ...] = ()
    for side in _SIDES:
        rows = tuple(_row(n, s, errors, known, kind, full_scale, side) for n, s in by_photo.items())
        if _bytes(rows) <= _BUDGET_BYTES:
            break
    return Grid(rows, full_scale, tuple(notes))
