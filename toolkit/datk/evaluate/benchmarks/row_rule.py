"""`real4`: four real scenes with measured depth, where pairs at about the same row cannot be guessed from the row.

In most photographs a lower point is nearer, so a net can score 70-80 % on random pairs without seeing depth. Here the
main pairs lie at most 2 % of the height apart, and exactly half of them have the nearer point lower: "lower is nearer"
scores 50 %. All-pair figures stand beside them. Four scenes are a smoke test, not a benchmark.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datk.data.sample import Sample
from datk.depth.preprocess import read_image
from datk.errors import DataError
from datk.evaluate.benchmarks.base import Benchmark
from datk.evaluate.benchmarks.drawing import draw_pairs
from datk.evaluate.benchmarks.pairs import PairImage, PairSet

FOLDER = Path(__file__).parent / "mini_data"
PAIRS_A_SCENE = 2000
MAX_ROW_SHARE = 0.02
"""Rows of a same-row pair differ by at least one pixel and at most this share of the height."""
MIN_RATIO = 1.2
"""Nearer over farther, in the ground truth's disparity (Middlebury, raw pixels) or inverse depth (ARC2017)."""
SEED = 20240614
_DRAWN = f"{PAIRS_A_SCENE} pairs a scene, ground-truth ratio at least {MIN_RATIO}"


def load(data_dir: Path | None = None) -> PairSet:
    """Same-row pairs of the four scenes, all-pairs as the extra set "all pairs"; drawn with a fixed seed.

    data_dir: another folder with real.json of the same form. Raises DataError when it cannot be read.
    """
    root = data_dir or FOLDER
    scenes = read_real_scenes(root)
    notes = (
        f"{_DRAWN}, rows at most {100 * MAX_ROW_SHARE:g} % of the height apart, half with the nearer point lower; "
        f"seed {SEED}",
        "pairs of one image are not independent: the true uncertainty is wider than the Wilson interval",
    )
    same_row: list[PairImage] = []
    everywhere: list[PairImage] = []
    for number, (path, sample) in enumerate(scenes):
        inverse, valid = sample.inverse_depth()
        rows = max(1, int(MAX_ROW_SHARE * inverse.shape[0]))
        for images, limit, seed in ((same_row, rows, SEED + number), (everywhere, None, SEED + 100 + number)):
            pairs = draw_pairs(
                inverse,
                valid,
                count=PAIRS_A_SCENE,
                seed=seed,
                min_ratio=MIN_RATIO,
                max_row_difference=limit,
                balanced=limit is not None,
            )
            images.append(PairImage(path, sample.scene_kind, pairs))
    all_pairs = PairSet(name="all pairs", root=root, images=tuple(everywhere), notes=(_DRAWN + f"; seed {SEED + 100}",))
    return PairSet(
        name=BENCHMARK.name, root=root, images=tuple(same_row), notes=notes, extra_sets={all_pairs.name: all_pairs}
    )


def read_real_scenes(root: Path) -> list[tuple[str, Sample]]:
    """(image path relative to root, sample) of every entry of root/real.json. For evaluation only, never training."""
    index = root / "real.json"
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))["scenes"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{index}: not a readable scene index ({error})") from error
    return [(e["image"], _sample(root, e)) for e in entries]


def _sample(root: Path, entry: dict[str, Any]) -> Sample:
    path = root / entry["ground_truth"]
    stored = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 2:
        raise DataError(f"{path}: expected a 16-bit grey PNG of ground truth")
    values = np.where(stored > 0, stored / float(entry["scale"]), np.nan).astype(np.float32)
    field = {"disparity": "disparity_px", "depth": "depth_m"}[entry["kind"]]
    truth: dict[str, Any] = {field: values}
    return Sample(
        name=entry["name"],
        image=read_image(root / entry["image"]),
        scene_kind=entry["scene"],
        licence=entry["licence"],
        **truth,
    )


BENCHMARK = Benchmark(
    name="real4",
    title="four real scenes, pairs at about the same row, and the row rule beside",
    load=load,
    row_rule=True,
)
