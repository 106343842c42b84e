"""Makes toolkit/datk/evaluate/benchmarks/mini_data, the built-in pair benchmark.

    PYTHONPATH=toolkit python tests/golden/make_mini_bench.py RGBD_FOLDER

RGBD_FOLDER holds the four real scenes: NAME.png, NAME_gt.png (16-bit, 0 = unknown) and index.json.
Rendered scenes come from datk's own generator with a seed of their own, so no training set holds them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import sha256_file, write_json
from datk.data.sample import disparity_from_depth
from datk.data.synthetic import SCENE_VERSION, SyntheticItem, generate, load
from datk.depth.preprocess import read_image
from datk.evaluate.benchmarks import mini
from datk.evaluate.benchmarks.drawing import calm, draw_pairs
from datk.evaluate.benchmarks.pairs import PointPair
from datk.evaluate.benchmarks.row_rule import read_real_scenes

REAL = {
    "mb2014_motorcycle": "real_motorcycle",
    "mb2006_aloe": "real_aloe",
    "mb2014_adirondack": "real_adirondack",
    "arc2017_bin": "real_arc2017",
}
SEED = 977_001_213
"""Far from the small seeds of recipes: rendered scenes here are in no training set."""
SIZE = (252, 336)
RENDERED = 240
IMAGES_A_KIND = 3
PAIRS_A_RENDERED = 10
PAIRS_A_REAL = 100
MIN_RATIO = 1.2
JPEG_QUALITY = 92

Annotations = dict[str, list[dict[str, Any]]]


def annotate(inverse: NDArray[np.float32], valid: NDArray[np.bool_], *, count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs of calm pixels in DA-2K's form: point1 is the closer one. Sky is never one of the two points."""
    pairs = draw_pairs(inverse, calm(inverse, valid) & (inverse > 0), count=count, seed=seed, min_ratio=MIN_RATIO)
    return [entry(p) for p in pairs]


def entry(pair: PointPair) -> dict[str, Any]:
    return {"point1": list(pair.nearer), "point2": list(pair.farther), "closer_point": "point1"}


def add_real(source: Path, out: Path) -> Annotations:
    """Copy the four scenes byte for byte, write real.json, and annotate them."""
    listed = {e["name"]: e for e in json.loads((source / "index.json").read_text(encoding="utf-8"))}
    scenes = []
    for name, scene in REAL.items():
        e = listed[name]
        image, truth = f"images/{scene}/{e['image']}", f"ground_truth/{e['gt']}"
        for origin, target in ((e["image"], image), (e["gt"], truth)):
            (out / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / origin, out / target)
        kept = {k: e[k] for k in ("name", "kind", "scale", "units", "source", "licence", "note")}
        digests = {"image_sha256": sha256_file(out / image), "ground_truth_sha256": sha256_file(out / truth)}
        scenes.append({"scene": scene, "image": image, "ground_truth": truth, **kept, **digests})
    write_json(out / "real.json", {"schema_version": 1, "scenes": scenes})
    return {
        path: annotate(*sample.inverse_depth(), count=PAIRS_A_REAL, seed=SEED + k)
        for k, (path, sample) in enumerate(read_real_scenes(out))
    }


def add_rendered(out: Path, renderer: str) -> tuple[Annotations, str]:
    """Render scenes, keep the first few of each kind, write them as JPEG and annotate them."""
    annotations: Annotations = {}
    with tempfile.TemporaryDirectory() as folder:
        summary = generate(Path(folder), count=RENDERED, size=SIZE, seed=SEED, renderer=renderer)
        kinds: dict[str, list[SyntheticItem]] = defaultdict(list)
        for item in load(Path(folder)):
            kinds[item.scene_kind].append(item)
        for kind in sorted(kinds):
            kept = 0
            for item in kinds[kind]:
                number = int(item.image_path.stem)
                inverse, valid = disparity_from_depth(np.load(item.depth_path))
                good = calm(inverse, valid) & (inverse > 0)
                if kept == IMAGES_A_KIND or good.mean() < 0.25:
                    continue
                path = f"images/{kind}/{number:06d}.jpg"
                write_jpeg(out / path, read_image(item.image_path))
                annotations[path] = annotate(inverse, valid, count=PAIRS_A_RENDERED, seed=SEED + 1000 + number)
                kept += 1
    return annotations, str(summary.renderer)


def write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    path.write_bytes(data.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rgbd", type=Path)
    parser.add_argument("--out", type=Path, default=mini.FOLDER)
    parser.add_argument("--renderer", default="auto")
    arguments = parser.parse_args()
    for part in ("images", "ground_truth"):
        shutil.rmtree(arguments.out / part, ignore_errors=True)
    rendered, renderer = add_rendered(arguments.out, arguments.renderer)
    real = add_real(arguments.rgbd, arguments.out)
    write_json(arguments.out / "rendered.json", {"scene_version": SCENE_VERSION, "seed": SEED, "size": list(SIZE)})
    lines = [f"{json.dumps(path)}: {json.dumps(pairs)}" for path, pairs in {**rendered, **real}.items()]
    (arguments.out / "annotations.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(rendered)} rendered images by {renderer}, {len(real)} real ones; {sum(map(len, rendered.values()))}"
          f" + {sum(map(len, real.values()))} pairs")  # fmt: skip


if __name__ == "__main__":
    main()
