"""Controls that catch a broken scorer or loader on the very set that is about to be scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from datk.depth.io_spec import DepthKind, Size
from datk.depth.runner import DepthMap, ImageU8
from datk.evaluate.benchmarks.pair_file import parse_image
from datk.evaluate.benchmarks.pairs import (
    RIGHT,
    TIE,
    WRONG,
    BenchResult,
    PairImage,
    PairSet,
    score_pairs,
    swapped,
)

CONTROL_IMAGES = 4
"""Controls look at this many images, spread over the set: they test the code, not the net."""

Scorer = Callable[["FieldRunner", PairSet], BenchResult]


class FieldRunner:
    """Not a net: a map that is a fixed function of the pixel grid, at the photograph's own size."""

    label = "control"
    input_size: Size = (14, 14)

    def __init__(self, name: str, field: Callable[[int, int], DepthMap], depth_kind: DepthKind) -> None:
        self.name = name
        self.depth_kind = depth_kind
        self._field = field

    def predict(self, image: ImageU8) -> DepthMap:
        return self._field(image.shape[0], image.shape[1])

    predict_photo = predict

    def close(self) -> None:
        """Holds nothing."""


def constant_map(kind: DepthKind = DepthKind.DISPARITY_AFFINE_INVARIANT) -> FieldRunner:
    """Knows nothing; must score 0."""
    return FieldRunner("constant map", lambda h, w: np.full((h, w), 0.5, np.float32), kind)


def lower_is_nearer(kind: DepthKind = DepthKind.DISPARITY_AFFINE_INVARIANT) -> FieldRunner:
    """The row rule: a point further down the image is nearer. What a net must beat to have learned more."""
    sign = 1.0 if kind.larger_is == "nearer" else -1.0
    return FieldRunner(
        "lower is nearer", lambda h, w: np.repeat(sign * np.arange(h, dtype=np.float32)[:, None], w, axis=1), kind
    )


def speckle(kind: DepthKind) -> FieldRunner:
    """A different value at (nearly) every pixel, the same on every call."""
    return FieldRunner("speckle", lambda h, w: np.random.default_rng(7).random((h, w), dtype=np.float32), kind)


def self_test(pairs: PairSet, *, score: Scorer = score_pairs) -> tuple[str, ...]:
    """Run the controls on a few images of the set; returns their names.

    A constant map scores 0; the reversed answers score the complement; writing a pair's points in the other order
    changes nothing; metric depth reverses the sign; points are read as [row, column].
    Raises RuntimeError naming the first that fails: then the code is wrong and no score may be believed.
    """
    few = _few(pairs)
    disparity, metric = DepthKind.DISPARITY_AFFINE_INVARIANT, DepthKind.DEPTH_METRIC_M
    plain = score(speckle(disparity), few)
    reverse = score(speckle(disparity), swapped(few))
    constant = score(constant_map(), few)
    rows = score(lower_is_nearer(), few)
    held = {
        "constant map scores 0": constant.overall.right == 0 and constant.ties == constant.overall.n,
        "reversed answers score the complement": plain.outcomes == _complement(reverse.outcomes),
        "order of the two points changes nothing": _reordered(few) == few.images,
        "metric depth reverses the sign": plain.outcomes == _complement(score(speckle(metric), few).outcomes),
        "points are read as [row, column]": rows.outcomes == _row_outcomes(few, rows),
    }
    for name, ok in held.items():
        if not ok:
            raise RuntimeError(f"{pairs.name}: scorer control failed: {name}")
    return tuple(held)


def _few(pairs: PairSet) -> PairSet:
    missing = set(pairs.missing)
    there = [i for i in pairs.images if i.path not in missing]
    step = max(1, len(there) // CONTROL_IMAGES)
    return replace(pairs, images=tuple(there[::step][:CONTROL_IMAGES]), extra_sets={})


def _complement(outcomes: dict[str, str]) -> dict[str, str]:
    table = str.maketrans({RIGHT: WRONG, WRONG: RIGHT})
    return {path: o.translate(table) for path, o in outcomes.items()}


def _reordered(pairs: PairSet) -> tuple[PairImage, ...]:
    """The images parsed again with the nearer point written second."""
    problems: list[str] = []
    images = tuple(
        parse_image(
            i.path,
            [{"point1": list(p.farther), "point2": list(p.nearer), "closer_point": "point2"} for p in i.pairs],
            problems,
        )
        for i in pairs.images
    )
    return images if not problems else ()


def _row_outcomes(pairs: PairSet, scored: BenchResult) -> dict[str, str]:
    """What the row rule must score, from the coordinates alone; unscored pairs are taken as they are."""
    expected: dict[str, str] = {}
    for image in pairs.images:
        by_rows = [
            TIE if p.nearer[0] == p.farther[0] else RIGHT if p.nearer[0] > p.farther[0] else WRONG for p in image.pairs
        ]
        got = scored.outcomes[image.path]
        expected[image.path] = "".join(e if g in (RIGHT, WRONG, TIE) else g for e, g in zip(by_rows, got, strict=True))
    return expected
