"""Images a student must never see because it is judged on them: benchmarks, found again by perceptual hash."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import sha256_json
from datk.data.dataset import AdaptedDataset
from datk.data.phash import distances, perceptual_hash, perceptual_hash_pair
from datk.depth.preprocess import list_images, read_image
from datk.errors import DataError, EnvironmentLacks
from datk.evaluate.benchmarks import available
from datk.evaluate.benchmarks.base import Benchmark
from datk.evaluate.benchmarks.dense import DenseSet


@dataclass(frozen=True)
class Hit:
    """An image too near to one that is kept out."""

    image: str
    distance: int
    """Differing bits of 64."""
    mirrored: bool


@dataclass(frozen=True)
class KeepOut:
    """names: SET/IMAGE of every image kept out, in order. hashes: theirs, uint64. sets: images by set."""

    names: tuple[str, ...]
    hashes: NDArray[np.uint64]
    sets: dict[str, int]
    notes: tuple[str, ...] = ()
    """What could not be looked at, and why."""

    @property
    def digest(self) -> str:
        return sha256_json([self.names, [int(h) for h in self.hashes]])

    def hit(self, photo: NDArray[np.uint8], max_distance: int) -> tuple[int, Hit | None]:
        """(hash of a (H, W, 3) uint8 RGB photograph, the nearest image kept out within max_distance bits or None)."""
        straight, mirror = perceptual_hash_pair(photo)
        best: Hit | None = None
        for value, mirrored in ((straight, False), (mirror, True)):
            if len(self.hashes) == 0:
                break
            bits = distances(value, self.hashes)
            index = int(bits.argmin())
            distance = int(bits[index])
            if distance <= max_distance and (best is None or distance < best.distance):
                best = Hit(self.names[index], distance, mirrored)
        return straight, best

    def as_json(self) -> dict[str, Any]:
        hashes = [f"{int(h):016x}" for h in self.hashes]
        return {"sets": self.sets, "notes": list(self.notes), "images": dict(zip(self.names, hashes, strict=True))}

    @staticmethod
    def from_json(value: dict[str, Any]) -> KeepOut:
        hashes = np.array([int(h, 16) for h in value["images"].values()], np.uint64)
        return KeepOut(tuple(value["images"]), hashes, dict(value["sets"]), tuple(value["notes"]))


NOTHING = KeepOut((), np.empty(0, np.uint64), {})


def keep_out_of(sets: dict[str, Sequence[Path]], *, roots: dict[str, Path], notes: Sequence[str] = ()) -> KeepOut:
    """Hash every image of every set. roots: the folder a set's names are relative to.

    Raises DataError for one that cannot be read: a benchmark with a hole would pass for checked.
    """
    names, hashes = [], []
    for name, paths in sets.items():
        for path in paths:
            names.append(f"{name}/{path.relative_to(roots[name]).as_posix()}")
            hashes.append(perceptual_hash(read_image(path)))
    counts = {name: len(paths) for name, paths in sets.items()}
    return KeepOut(tuple(names), np.array(hashes, np.uint64), counts, tuple(notes))


def joined(*parts: KeepOut) -> KeepOut:
    """Everything that any of them keeps out; a set that two of them name is counted in both."""
    sets: dict[str, int] = {}
    for part in parts:
        for name, count in part.sets.items():
            sets[name] = sets.get(name, 0) + count
    return KeepOut(
        tuple(name for part in parts for name in part.names),
        np.concatenate([part.hashes for part in parts]),
        sets,
        tuple(note for part in parts for note in part.notes),
    )


def benchmarks_at_hand(folders: Sequence[Path] = ()) -> KeepOut:
    """Everything a model may be judged on that lies here: benchmark_images and measured_images. Raises as they do."""
    return joined(benchmark_images(folders), measured_images())


def benchmark_images(folders: Sequence[Path]) -> KeepOut:
    """The built-in benches of point pairs, DA-2K where it lies in its usual place, and every folder named.

    Raises DataError for a folder that is missing, empty or unreadable.
    """
    sets: dict[str, Sequence[Path]] = {}
    roots: dict[str, Path] = {}
    notes = []
    for name, bench in available().items():
        if not isinstance(bench, Benchmark) or bench.variant_of:
            continue  # sets with measured depth are named by the user; a variant has its original's pictures
        try:
            pairs = bench.load(None)
        except EnvironmentLacks as error:
            notes.append(f"{name} not checked: {error.message}")
            continue
        paths = sorted({p for s in (pairs, *pairs.extra_sets.values()) for p in (s.root / i.path for i in s.images)})
        sets[name], roots[name] = [p for p in paths if p.is_file()], pairs.root
        if len(sets[name]) < len(paths):
            notes.append(f"{name}: {len(paths) - len(sets[name])} of its {len(paths)} images are not on disk")
    for folder in folders:
        name = folder.name if folder.name not in sets else str(folder)
        sets[name], roots[name] = list_images(folder), folder
    return keep_out_of(sets, roots=roots, notes=notes)


def measured_images() -> KeepOut:
    """The pictures of benchmarks with measured depth that lie in their usual places; the others in notes.

    Raises DataError for a picture of a benchmark that cannot be read.
    """
    names: list[str] = []
    hashes: list[int] = []
    known: dict[tuple[Path, str], int] = {}
    sets: dict[str, int] = {}
    absent: list[str] = []
    unusable: list[str] = []
    for name, bench in available().items():
        if isinstance(bench, Benchmark):
            continue
        try:
            found = bench.load(None)
        except EnvironmentLacks:
            absent.append(name)
            continue
        except DataError as error:
            unusable.append(f"{name} not checked: {error.message}")
            continue
        assert isinstance(found, DenseSet), "only sets with measured depth have a usual place"
        sets[name] = len(found.dataset)
        names += [f"{name}/{key}" for key in found.keys]
        hashes += _hashes(found.dataset, known)
    if absent:
        unusable.append(f"not checked, for they are not here: {', '.join(absent)}; --keep-out names folders")
    return KeepOut(tuple(names), np.array(hashes, np.uint64), sets, tuple(unusable))


def _hashes(dataset: AdaptedDataset, known: dict[tuple[Path, str], int]) -> list[int]:
    """Hash of each picture, its depth unread where files are one picture's own. known: hashes by folder and key, added
    to, for two protocols may judge on one set."""

    def hashed(index: int) -> int:
        item = dataset.items[index]
        if (found := known.get((item.root, item.key))) is not None:
            return found
        alone = len(set(item.files)) == len(item.files)  # else a container of many pictures with their depth
        return perceptual_hash(read_image(item.image) if alone else dataset.read(index).image)

    with ThreadPoolExecutor() as threads:
        found = list(threads.map(hashed, range(len(dataset))))
    known |= {(item.root, item.key): value for item, value in zip(dataset.items, found, strict=True)}
    return found
