"""Point pairs, and the strict scorer every pair benchmark shares. The file they come in: pair_file.py."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from datk.depth.io_spec import DepthKind
from datk.depth.picture_header import read_header
from datk.depth.preprocess import decode_image
from datk.depth.runner import ImageU8, Runner
from datk.errors import DataError, UsageError
from datk.evaluate.benchmarks.image_store import FolderStore, ImageStore
from datk.evaluate.benchmarks.source import Identity, NamedRunner, identity_of, values_at
from datk.evaluate.statistics import wilson_interval

SCORER_VERSION = 2
"""Raised whenever the same maps would be scored otherwise: older cached answers are then not used."""

Point = tuple[int, int]
"""(row, column) in pixels of the original image."""

RIGHT, WRONG, TIE, BROKEN, OUTSIDE, MISSING, UNREADABLE = "1", "0", "t", "n", "o", "-", "x"
"""Outcome of one pair. A tie and a non-finite value are wrong; the last three could not be scored."""
_SCORED = (RIGHT, WRONG, TIE, BROKEN)
UNSCORED = frozenset((OUTSIDE, MISSING, UNREADABLE))


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


@dataclass(frozen=True)
class ImageChange:
    """A change of every image, deterministic in its pixels. apply: (H, W, 3) uint8 RGB -> same shape."""

    name: str
    apply: Callable[[ImageU8], ImageU8]


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
    store: ImageStore | None = None
    """Where the images are; None = files below root."""
    change: ImageChange | None = None
    """What is done to every image before a net sees it (a robustness variant)."""

    @property
    def n_pairs(self) -> int:
        return sum(len(i.pairs) for i in self.images)

    @property
    def missing(self) -> tuple[str, ...]:
        """Annotated images that are not on disk."""
        files = self.files
        return tuple(i.path for i in self.images if not files.has(i.path))

    @property
    def files(self) -> ImageStore:
        return self.store or FolderStore(self.root)


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
    unreadable_images: dict[str, str] = {}
    """Image path -> why it, or the map computed for it elsewhere, could not be read. Named, never skipped silently."""
    points_outside: tuple[str, ...]
    odd_images: dict[str, str] = {}
    """Image path -> grey, CMYK, 16 bits, turned by EXIF: scored, and told: annotations may not expect it."""
    outcomes: dict[str, str]
    """Image path -> one character a pair: 1 right, 0 wrong, t tie, n not finite; not scored: o point outside, - image
    missing, x image unreadable."""
    companions: dict[str, BenchResult] = {}
    """Further figures of the same runner, or of a rule such as "lower is nearer", beside the main ones."""
    controls: tuple[str, ...] = ()
    """Scorer controls that held on this very set before it was scored."""
    notes: tuple[str, ...] = ()


class ImageScore(_Record):
    """What scoring one image gave. Small: it is what is cached."""

    outcomes: str
    problem: str = ""
    outside: tuple[str, ...] = ()
    transposed: int = 0
    """Points outside the image that would lie inside as [column, row]."""
    oddities: tuple[str, ...] = ()


Progress = Callable[[int, int], None]


def score_pairs(
    runner: Runner,
    pairs: PairSet,
    *,
    progress: Progress | None = None,
) -> BenchResult:
    """Ask the runner which point of each pair is nearer, at the original image's size.

    The map is predicted at the runner's bucket (or by its own predict_photo), resized bilinearly with align_corners to
    the original size, and read at the two pixels. Strict: a tie or a non-finite value is wrong. The sign follows
    runner.depth_kind: disparity larger is nearer, metric depth smaller is nearer. Images that are missing or cannot be
    decoded, and points outside, are named; they leave `overall` and count as wrong in `accuracy_of_annotated`.
    Raises DataError when not one image could be scored.
    """
    scores: dict[str, ImageScore] = {}
    for done, image in enumerate(pairs.images, start=1):
        scores[image.path] = score_image(runner, pairs, image)
        if progress is not None:
            progress(done, len(pairs.images))
    return result_from(identity_of(runner), pairs, scores)


def content_key(pairs: PairSet, image: PairImage) -> str | None:
    """Digest of all that an image's score depends on beside the net; None when the image cannot be read."""
    try:
        data = pairs.files.read(image.path)
    except DataError:
        return None
    points = ";".join(f"{p.nearer[0]},{p.nearer[1]},{p.farther[0]},{p.farther[1]}" for p in image.pairs)
    change = pairs.change.name if pairs.change else ""
    return hashlib.sha256(f"pairs {SCORER_VERSION}|{change}|{points}|".encode() + data).hexdigest()


def score_image(runner: Runner, pairs: PairSet, image: PairImage) -> ImageScore:
    """Score one image. What is wrong with the image is in the answer, not raised; a broken net raises."""
    if not pairs.files.has(image.path):
        return ImageScore(outcomes=MISSING * len(image.pairs), problem="missing")
    try:
        data = pairs.files.read(image.path)
        photo = decode_image(data, name=image.path)
    except DataError as error:
        return ImageScore(outcomes=UNREADABLE * len(image.pairs), problem=error.message)
    header = read_header(data)
    oddities = header.oddities if header else ()
    if pairs.change is not None:
        photo = pairs.change.apply(photo)
    shape = photo.shape[:2]
    points = [p for pair in image.pairs for p in (pair.nearer, pair.farther)]
    inside = [p for p in points if _inside(p, shape)]
    try:
        values = values_at(runner, photo, inside, key=image.path) if inside else np.zeros(0, np.float32)
    except DataError as error:
        if not isinstance(runner, NamedRunner):
            raise
        return ImageScore(outcomes=UNREADABLE * len(image.pairs), problem=error.message, oddities=oddities)
    at = dict(zip(inside, values.tolist(), strict=True))
    outside = [p for p in points if p not in at]
    return ImageScore(
        outcomes="".join(_outcome(p, at, runner.depth_kind) for p in image.pairs),
        outside=tuple(f"point {list(p)} outside {shape[0]}x{shape[1]}" for p in outside),
        transposed=sum(_inside((p[1], p[0]), shape) for p in outside),
        oddities=oddities,
    )


def _outcome(pair: PointPair, at: Mapping[Point, float], kind: DepthKind) -> str:
    if pair.nearer not in at or pair.farther not in at:
        return OUTSIDE
    return judge_pair(at[pair.nearer], at[pair.farther], kind)


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


def result_from(who: Identity, pairs: PairSet, scores: Mapping[str, ImageScore]) -> BenchResult:
    """Sum up the images' scores. Raises DataError when no annotated image exists, or not one could be read."""
    by_scene: dict[str, str] = {}
    for image in pairs.images:
        by_scene[image.scene] = by_scene.get(image.scene, "") + scores[image.path].outcomes
    every = "".join(by_scene.values())
    counts = Counter(every)
    if counts[MISSING] == len(every):
        raise DataError(f"{pairs.root}: none of the {len(pairs.images)} annotated images is there")
    unreadable = {i.path: scores[i.path].problem for i in pairs.images if UNREADABLE in scores[i.path].outcomes}
    if counts[MISSING] + counts[UNREADABLE] == len(every):
        first = next(iter(unreadable.values()))
        raise DataError(
            f"{pairs.root}: none of the {len(pairs.images)} annotated images could be scored; first: {first}"
        )
    change = f", every image changed first: {pairs.change.name}" if pairs.change else ""
    return BenchResult(
        bench=pairs.name,
        runner=who.name,
        runner_label=who.label,
        depth_kind=who.depth_kind,
        protocol=f"{who.path}, map resized to the original size, pixel read, ties wrong{change}",
        overall=share(every),
        scenes={scene: share(o) for scene, o in by_scene.items()},
        n_images=len(pairs.images),
        n_annotated_pairs=len(every),
        accuracy_of_annotated=counts[RIGHT] / len(every) if every else 0.0,
        ties=counts[TIE],
        not_finite=counts[BROKEN],
        missing_images=tuple(i.path for i in pairs.images if scores[i.path].outcomes.startswith(MISSING)),
        unreadable_images=unreadable,
        points_outside=tuple(f"{i.path}: {line}" for i in pairs.images for line in scores[i.path].outside),
        odd_images={i.path: ", ".join(scores[i.path].oddities) for i in pairs.images if scores[i.path].oddities},
        outcomes={i.path: scores[i.path].outcomes for i in pairs.images},
        notes=(*pairs.notes, *_transposed(scores)),
    )


def _transposed(scores: Mapping[str, ImageScore]) -> tuple[str, ...]:
    outside = sum(len(s.outside) for s in scores.values())
    fits = sum(s.transposed for s in scores.values())
    if not fits:
        return ()
    return (
        f"{fits} of the {outside} points outside their image would lie inside as [column, row]: "
        "points are [row, column]; are the annotations written the other way round?",
    )


def _inside(point: Point, shape: tuple[int, ...]) -> bool:
    return 0 <= point[0] < shape[0] and 0 <= point[1] < shape[1]


def same_pairs(a: BenchResult, b: BenchResult) -> None:
    """Raise UsageError unless both results are about the same pairs."""
    if a.bench != b.bench or {k: len(v) for k, v in a.outcomes.items()} != {k: len(v) for k, v in b.outcomes.items()}:
        raise UsageError(
            f"{a.runner} on {a.bench} and {b.runner} on {b.bench} were not scored on the same pairs",
            hint="score both on the same copy of the benchmark",
        )
