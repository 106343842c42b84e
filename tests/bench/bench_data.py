"""Loading alone, no net: images a second of work of each worker, and what the work is (read, decode, resize)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import cv2
import h5py
import numpy as np
import webdataset

from datk.config.train_sections import AugmentSection
from datk.data.dataset import open_dataset
from datk.data.loading import Loader
from datk.data.photos import builtin_photos
from datk.data.sources import ImageSource, open_images
from datk.depth.preprocess import bucket_image
from datk.train.data_sources import DatasetSource
from datk.train.samples import Batches

IMAGES, ROUNDS, WORKERS = 20, 2, 2
STORED, SIZE = (768, 1024), (518, 518)


def bucket(source: ImageSource, number: int) -> int:
    """An image as the teacher labels it. Returns its bytes: the loader is measured, not the hand-over."""
    return bucket_image(source.read(number % len(source)), SIZE).nbytes


def training_sample(batches: Batches, number: int) -> int:
    """An image with its target as the trainer sees it, augmented."""
    return batches.at([number]).image.nbytes


def plain(files: list[Path]) -> None:
    """The reference: cv2.imread and cv2.resize, one after the other, nothing checked."""
    for path in files:
        cv2.resize(cv2.imread(str(path)), (SIZE[1], SIZE[0]), interpolation=cv2.INTER_CUBIC)


def run() -> list[dict[str, Any]]:
    """One row a way of loading; value: images a second of all workers while at work (start-up is not counted).

    ratio > 1 means more images a second than the plain loop over the same pictures, in the same run.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as name:
            return _rows(Path(name))
    finally:
        cv2.setNumThreads(threads)


def _rows(root: Path) -> list[dict[str, Any]]:
    files = _write(root)
    batches = Batches(
        DatasetSource(open_dataset("hypersim", root / "hypersim")),
        input_size=SIZE,
        augment=AugmentSection(),
        batch_size=1,
        seed=0,
    )
    folder, tar = open_images(root / "photos"), open_images(f"tar:{root}/photos-*.tar")
    label, sample = partial(bucket, tar), partial(training_sample, batches)
    ways: list[tuple[str, Callable[[int], int], int, Literal["threads", "processes"]]] = [
        ("JPEG files", partial(bucket, folder), 1, "threads"),
        ("JPEG in tar shards", label, 1, "threads"),
        (f"JPEG in tar shards, {WORKERS} threads", label, WORKERS, "threads"),
        ("Hypersim, augmented", sample, 1, "threads"),
        (f"Hypersim, augmented, {WORKERS} threads", sample, WORKERS, "threads"),
        (f"Hypersim, augmented, {WORKERS} processes", sample, WORKERS, "processes"),
    ]
    reference: list[float] = []
    speeds: dict[str, list[float]] = {name: [] for name, *_ in ways}
    spent: dict[str, str] = {}
    for turn in range(ROUNDS + 1):  # the first warms up
        begun = time.perf_counter()
        plain(files)
        if turn:
            reference.append(IMAGES / (time.perf_counter() - begun))
        for name, make, workers, how in ways:
            loader = Loader(make, start=0, stop=IMAGES, workers=workers, how=how)
            for _ in loader:
                pass
            if turn:
                speeds[name].append(sum(r.items_per_s for r in loader.reports))
            spent[name] = _spent(loader)
    base = median(reference)
    return [
        {
            "name": f"load {STORED[0]}x{STORED[1]} -> {SIZE[0]}x{SIZE[1]}: {name}",
            "value": median(speeds[name]),
            "unit": f"images/s, {median(speeds[name]) / workers:.0f} a worker: {spent[name]}",
            "n": ROUNDS,
            "reference": f"cv2.imread + cv2.resize, {base:.0f} images/s",
            "ratio": median(speeds[name]) / base,
        }
        for name, _, workers, _ in ways
    ]


def _spent(loader: Loader[int]) -> str:
    """Share of the workers' time by phase."""
    busy = sum(r.busy_s for r in loader.reports)
    phases = sorted({p for r in loader.reports for p in r.phases_s})
    shares = {p: sum(r.phases_s.get(p, 0.0) for r in loader.reports) / busy for p in phases}
    return ", ".join(f"{name} {share:.0%}" for name, share in {**shares, "rest": 1 - sum(shares.values())}.items())


def _write(root: Path) -> list[Path]:
    """Photographs enlarged to STORED: as loose files, in two shards, and as a Hypersim scene with HDF5 distances."""
    height, width = STORED
    encoded = []
    for photo in builtin_photos("train")[:IMAGES]:
        image = cv2.resize(photo.read()[..., ::-1], (width, height), interpolation=cv2.INTER_CUBIC)
        encoded.append(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    files = [root / "photos" / f"{i:04d}.jpg" for i in range(IMAGES)]
    scene = root / "hypersim" / "ai_001_001" / "images"
    preview, geometry = scene / "scene_cam_00_final_preview", scene / "scene_cam_00_geometry_hdf5"
    for folder in (root / "photos", preview, geometry):
        folder.mkdir(parents=True)
    distance = (2 + np.random.default_rng(0).random((height, width)).cumsum(axis=0) / 100).astype(np.float32)
    with webdataset.ShardWriter(str(root / "photos-%03d.tar"), maxcount=IMAGES // 2, verbose=0) as shards:
        for i, data in enumerate(encoded):
            files[i].write_bytes(data)
            shards.write({"__key__": f"{i:04d}", "jpg": data})
            (preview / f"frame.{i:04d}.tonemap.jpg").write_bytes(data)
            with h5py.File(geometry / f"frame.{i:04d}.depth_meters.hdf5", "w") as file:
                file.create_dataset("dataset", data=distance, compression="gzip", compression_opts=1)
    return files


if __name__ == "__main__":
    for row in run():
        print(row)
