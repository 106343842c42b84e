"""Point pairs in the layout of DA-2K, and the strict scorer every pair benchmark shares.

annotations.json: {"images/<scene>/<file>": [{"point1": [row, col], "point2": [row, col], "closer_point": "point1"}]},
points in pixels of the original image, the scene is the folder's name (Depth Anything V2, DA-2K.md).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pydantic import BaseModel, ConfigDict

from datk.depth.io_spec import DepthKind
from datk.depth.preprocess import read_image
from datk.depth.runner import DepthMap, ImageU8, Runner, predict_photo
from datk.errors import DataError, UsageError
from datk.evaluate.statistics import wilson_interval

Point = tuple[int, int]
"""(row, column) in pixels of the original image."""

RIGHT, WRONG, TIE, BROKEN, OUTSIDE, MISSING = "1", "0", "t", "n", "o", "-"
"""Outcome of one pair. A tie and a non-finite value are wrong; OUTSIDE and MISSING could not be scored."""
_SCORED = (RIGHT, WRONG, TIE, BROKEN)


@dataclass(frozen=True)
class PointPair:
    """Two points of one image; `nearer` is the one that is closer to the camera."""

    nearer: Point
    farther: Point


@dataclass(frozen=True)
class PairImage:
    """One annotated image. `path` is relative to the set's root; `scene` is the name of its folder."""

    path: str
    scene: str
    pairs: tuple[PointPair, ...]


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """A benchmark loaded: annotations in file order; images are read when scored."""

    name: str
    root: Path
    images: tuple[PairImage, ...]
    notes: tuple[str, ...] = ()
    """What a reader must know beside the figures, for example the margin pairs were drawn with."""
    extra_sets: Mapping[str, PairSet] = field(default_factory=dict)
    """Further pairs, scored beside the main ones."""

    @property
    def n_pairs(self) -> int:
        return sum(len(i.pairs) for i in self.images)

    @property
    def missing(self) -> tuple[str, ...]:
        """Annotated images that are not on disk."""
        return tuple(i.path for i in self.images if not (self.root / i.path).is_file())


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(_Record):
    """Right answers among scored pairs, with the 95 % Wilson interval. accuracy is None when nothing was scored."""

    right: int
    n: int
    accuracy: float | None
    low: float
    high: float


class BenchResult(_Record):
    """One net on one benchmark. Accuracies are shares 0..1; overall is pair-weighted, not the mean of scenes."""

    bench: str
    runner: str
    runner_label: str
    depth_kind: DepthKind
    protocol: str
    overall: Share
    scenes: dict[str, Share]
    n_images: int
    n_annotated_pairs: int
    accuracy_of_annotated: float
    """Right answers over all annotated pairs: pairs that could not be scored count as wrong here."""
    ties: int
    not_finite: int
    missing_images: tuple[str, ...]
    points_outside: tuple[str, ...]
    outcomes: dict[str, str]
    """Image path -> one character a pair: 1 right, 0 wrong, t tie, n not finite, o point outside, - image missing."""
    companions: dict[str, BenchResult] = {}
    """Further figures of the same runner, or of a rule such as "lower is nearer", beside the main ones."""
    controls: tuple[str, ...] = ()
    """Scorer controls that held on this very set before it was scored."""
    notes: tuple[str, ...] = ()


@runtime_checkable
class PhotoRunner(Protocol):
    """A runner with a path of its own from photograph to full-size map, such as the official lower-bound rule."""

    def predict_photo(self, photo: ImageU8) -> DepthMap: ...


Progress = Callable[[int, int], None]


def load_pairs(root: Path, *, name: str, notes: tuple[str, ...] = ()) -> PairSet:
    """Read root/annotations.json. Raises DataError that lists what does not fit the layout (up to ten entries)."""
    path = root / "annotations.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    if not isinstance(value, dict) or not value:
        raise DataError(f"{path}: expected an object of image path -> list of pairs")
    problems: list[str] = []
    images = tuple(parse_image(key, entries, problems) for key, entries in value.items())
    if problems:
        raise DataError("\n  ".join([f"{path}: {len(problems)} problems", *problems[:10]]))
    pairs = PairSet(name=name, root=root, images=images, notes=notes)
    if len(pairs.missing) == len(images):
        raise DataError(f"{root}: none of the {len(images)} annotated images is there, first {images[0].path}")
    return pairs


def score_pairs(
    runner: Runner,
    pairs: PairSet,
    *,
    progress: Progress | None = None,
) -> BenchResult:
    """Ask the runner which point of each pair is nearer, at the original image's size.

    The map is predicted at the runner's bucket (or by its own predict_photo), resized bilinearly with align_corners to
    the original size, and read at the two pixels. Strict: a tie or a non-finite value is wrong. The sign follows
    runner.depth_kind: disparity larger is nearer, metric depth smaller is nearer. Missing images and points outside
    their image are named; they leave `overall` and count as wrong in `accuracy_of_annotated`.
    Raises DataError when no annotated image exists or one cannot be decoded.
    """
    missing = set(pairs.missing)
    if len(missing) == len(pairs.images):
        raise DataError(f"{pairs.root}: none of the {len(pairs.images)} annotated images is there")
    outcomes: dict[str, str] = {}
    outside: list[str] = []
    for done, image in enumerate(pairs.images, start=1):
        if image.path in missing:
            outcomes[image.path] = MISSING * len(image.pairs)
        else:
            depth = predict_full_size(runner, read_image(pairs.root / image.path))
            outcomes[image.path] = "".join(_outcome(depth, p, runner.depth_kind) for p in image.pairs)
            outside += _outside(image, depth.shape)
        if progress is not None:
            progress(done, len(pairs.images))
    return _result(runner, pairs, outcomes, tuple(outside))


def predict_full_size(runner: Runner, photo: ImageU8) -> DepthMap:
    """(H, W, 3) uint8 RGB -> (H, W): the runner's own photo path when it has one, else through its bucket."""
    return runner.predict_photo(photo) if isinstance(runner, PhotoRunner) else predict_photo(runner, photo)


def judge_pair(nearer: float, farther: float, kind: DepthKind) -> str:
    """Outcome of one pair from the two values read; strict."""
    if not (np.isfinite(nearer) and np.isfinite(farther)):
        return BROKEN
    if nearer == farther:
        return TIE
    return RIGHT if (nearer > farther) == (kind.larger_is == "nearer") else WRONG


def swapped(pairs: PairSet) -> PairSet:
    """The control set with every answer reversed: a net scores on it what it gets wrong, ties aside."""
    images = tuple(
        replace(i, pairs=tuple(PointPair(nearer=p.farther, farther=p.nearer) for p in i.pairs)) for i in pairs.images
    )
    return replace(pairs, name=f"{pairs.name}-swapped", images=images)


def share(outcomes: Sequence[str]) -> Share:
    """Right over scored, with its interval. outcomes: one character a pair."""
    scored = [o for o in outcomes if o in _SCORED]
    right = scored.count(RIGHT)
    low, high = wilson_interval(right, len(scored))
    return Share(right=right, n=len(scored), accuracy=right / len(scored) if scored else None, low=low, high=high)


def _result(runner: Runner, pairs: PairSet, outcomes: dict[str, str], outside: tuple[str, ...]) -> BenchResult:
    by_scene: dict[str, str] = {}
    for image in pairs.images:
        by_scene[image.scene] = by_scene.get(image.scene, "") + outcomes[image.path]
    every = "".join(by_scene.values())
    counts = Counter(every)
    own_path = isinstance(runner, PhotoRunner)
    size = "x".join(map(str, runner.input_size))
    return BenchResult(
        bench=pairs.name,
        runner=runner.name,
        runner_label=runner.label,
        depth_kind=runner.depth_kind,
        protocol=("official float path" if own_path else f"8-bit bucket {size}")
        + ", map resized to the original size, pixel read, ties wrong",
        overall=share(every),
        scenes={scene: share(o) for scene, o in by_scene.items()},
        n_images=len(pairs.images),
        n_annotated_pairs=len(every),
        accuracy_of_annotated=counts[RIGHT] / len(every) if every else 0.0,
        ties=counts[TIE],
        not_finite=counts[BROKEN],
        missing_images=pairs.missing,
        points_outside=outside,
        outcomes=outcomes,
        notes=pairs.notes,
    )


def _outcome(depth: DepthMap, pair: PointPair, kind: DepthKind) -> str:
    if not (_inside(pair.nearer, depth.shape) and _inside(pair.farther, depth.shape)):
        return OUTSIDE
    return judge_pair(float(depth[pair.nearer]), float(depth[pair.farther]), kind)


def _inside(point: Point, shape: tuple[int, ...]) -> bool:
    return 0 <= point[0] < shape[0] and 0 <= point[1] < shape[1]


def _outside(image: PairImage, shape: tuple[int, ...]) -> list[str]:
    points = [p for pair in image.pairs for p in (pair.nearer, pair.farther) if not _inside(p, shape)]
    return [f"{image.path}: point {list(p)} outside {shape[0]}x{shape[1]}" for p in points]


def parse_image(key: str, entries: Any, problems: list[str]) -> PairImage:
    """One entry of annotations.json; what is wrong is appended to problems."""
    path = PurePosixPath(key)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        problems.append(f"{key}: expected a path such as images/<scene>/<file>")
    if not isinstance(entries, list) or not entries:
        problems.append(f"{key}: expected a list of pairs")
        entries = []
    pairs = [_pair(key, k, entry, problems) for k, entry in enumerate(entries)]
    return PairImage(key, path.parent.name, tuple(p for p in pairs if p is not None))


def _pair(key: str, k: int, entry: Any, problems: list[str]) -> PointPair | None:
    where = f"{key}[{k}]"
    if not isinstance(entry, dict):
        problems.append(f"{where}: expected an object with point1, point2 and closer_point")
        return None
    points = [entry.get("point1"), entry.get("point2")]
    for name, point in zip(("point1", "point2"), points, strict=True):
        if not (isinstance(point, list) and len(point) == 2 and all(type(v) is int for v in point)):
            problems.append(f"{where}.{name}: {point!r} is not [row, column] in whole pixels")
            return None
    closer = entry.get("closer_point")
    if closer not in ("point1", "point2"):
        problems.append(f"{where}.closer_point: {closer!r} is neither 'point1' nor 'point2'")
        return None
    first, second = ((int(p[0]), int(p[1])) for p in points if p is not None)
    return PointPair(first, second) if closer == "point1" else PointPair(second, first)


def same_pairs(a: BenchResult, b: BenchResult) -> None:
    """Raise UsageError unless both results are about the same pairs."""
    if a.bench != b.bench or {k: len(v) for k, v in a.outcomes.items()} != {k: len(v) for k, v in b.outcomes.items()}:
        raise UsageError(
            f"{a.runner} on {a.bench} and {b.runner} on {b.bench} were not scored on the same pairs",
            hint="score both on the same copy of the benchmark",
        )
