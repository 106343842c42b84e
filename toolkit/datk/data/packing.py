"""Images from anywhere into tar shards, resized once: what is decoded a hundred times is made small first.

OUT/shard-000000.tar   000000000.jpg + 000000000.json {"key": name in the source} ..., WebDataset's format
OUT/shard-000000.json  the shard's manifest: written last, so a shard with one is whole

Shard k holds the numbers k * per_shard ... of the source and depends on nothing else: any number of machines can share
the work, a killed one is repeated, and the bytes are the same.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from datk.artifact.files import atomic_path, sha256_file, write_json
from datk.data.loading import Loader
from datk.data.sources.base import ImageSource
from datk.depth.preprocess import decode_image
from datk.errors import DataError, UsageError
from datk.measure.phases import phase

SCHEMA = 1


@dataclass(frozen=True)
class Packing:
    """How images are stored. short_side: larger ones are made this small (pixels; None: never). quality: of JPEG."""

    short_side: int | None = 600
    quality: int = 95
    per_shard: int = 5000

    def __post_init__(self) -> None:
        problems = []
        if self.short_side is not None and self.short_side < 14:
            problems.append(f"short side {self.short_side}: expected 14 pixels or more")
        if not 1 <= self.quality <= 100:
            problems.append(f"quality {self.quality}: expected 1 to 100")
        if self.per_shard < 1:
            problems.append(f"{self.per_shard} images a shard: expected at least 1")
        if problems:
            raise UsageError("; ".join(problems))


@dataclass(frozen=True)
class Packed:
    """What pack() did. left_out: images that cannot be read; every shard's manifest names its own with the reason."""

    shards: int
    written: int
    kept: int
    images: int
    left_out: int


def pack(
    source: ImageSource,
    out: Path,
    packing: Packing,
    *,
    part: tuple[int, int] = (0, 1),
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Write the shards of a part (number, of how many); whole ones are kept.

    Raises DataError when OUT holds shards of another source or another packing.
    """
    if not 0 <= part[0] < part[1]:
        raise UsageError(f"part {part[0] + 1}/{part[1]}: expected 1/N to N/N")
    mine = range(part[0], -(-len(source) // packing.per_shard), part[1])
    found = {number: read_manifest(_path(out, number, ".json")) for number in mine}
    for number, manifest in found.items():
        if manifest is not None:
            _check_same(out, number, manifest, source, packing)
    todo = [n for n, manifest in found.items() if manifest is None or not _is_whole(out, n, manifest)]
    total = sum(len(_numbers(source, packing, n)) for n in todo)
    done = 0
    for number in todo:
        numbers = _numbers(source, packing, number)
        found[number] = _write(source, out, packing, number, workers or min(8, os.cpu_count() or 1))
        done += len(numbers)
        if progress is not None:
            progress(done, total)
    manifests = [m for m in found.values() if m is not None]
    return Packed(
        shards=len(mine),
        written=len(todo),
        kept=len(mine) - len(todo),
        images=sum(m["images"] for m in manifests),
        left_out=sum(len(m["left_out"]) for m in manifests),
    )


def read_manifest(path: Path) -> dict[str, Any] | None:
    """A shard's manifest, or None when there is none. Raises DataError when it is damaged or of another schema."""
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a manifest ({error})", hint="delete it; its shard is written again") from error
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA:
        raise DataError(f"{path}: not a manifest of schema {SCHEMA}", hint="choose another --out")
    return manifest


def stored(data: bytes, packing: Packing, *, name: str) -> bytes:
    """An image's bytes as they go into a shard: a JPEG, upright, no larger than asked for.

    A JPEG that is small enough and says nothing of a rotation is kept byte for byte.
    """
    image = decode_image(data, name=name)
    short = min(image.shape[:2])
    scale = 1.0 if packing.short_side is None or short <= packing.short_side else packing.short_side / short
    if scale == 1.0 and data.startswith(b"\xff\xd8") and b"Exif" not in data[:65536]:
        return data
    if scale < 1.0:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        with phase("resize"):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    with phase("encode"):
        encoded, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, packing.quality])
    assert encoded
    return jpeg.tobytes()


def _write(source: ImageSource, out: Path, packing: Packing, number: int, workers: int) -> dict[str, Any]:
    numbers = _numbers(source, packing, number)
    left_out: list[dict[str, str]] = []
    shard = _path(out, number, ".tar")
    with atomic_path(shard) as part:
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as archive:
            for index, made in zip(numbers, _made(source, packing, numbers, workers), strict=True):
                if isinstance(made, DataError):
                    left_out.append({"key": source.key(index), "reason": made.message})
                    continue
                _add(archive, f"{index:09d}.jpg", made)
                _add(archive, f"{index:09d}.json", json.dumps({"key": source.key(index)}).encode())
    manifest = {
        "schema_version": SCHEMA,
        "source": source.name,
        **_identity(source, packing, numbers),
        "images": len(numbers) - len(left_out),
        "left_out": left_out,
        "bytes": shard.stat().st_size,
        "sha256": sha256_file(shard),
    }
    write_json(_path(out, number, ".json"), manifest)
    return manifest


def _made(source: ImageSource, packing: Packing, numbers: range, workers: int) -> Iterator[bytes | DataError]:
    def make(index: int) -> list[bytes | DataError]:  # in a list: a bare error would end the loader at its place
        try:
            return [stored(source.encoded(index), packing, name=source.key(index))]
        except DataError as error:
            return [error]

    return (made[0] for made in Loader(make, start=numbers.start, stop=numbers.stop, workers=workers))


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)  # time, owner and mode stay fixed: the same images give the same bytes
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _identity(source: ImageSource, packing: Packing, numbers: range) -> dict[str, Any]:
    """What a shard is made from, whatever the path the source has on this machine."""
    return {
        "source_images": len(source),
        "first": numbers.start,
        "first_key": source.key(numbers.start),
        "last_key": source.key(numbers.stop - 1),
        "packing": asdict(packing),
    }


def _check_same(out: Path, number: int, manifest: dict[str, Any], source: ImageSource, packing: Packing) -> None:
    differs = [
        f"{key} {manifest.get(key)!r} (wanted {value!r})"
        for key, value in _identity(source, packing, _numbers(source, packing, number)).items()
        if manifest.get(key) != value
    ]
    if differs:
        raise DataError(
            f"{_path(out, number, '.tar')}: holds something else: {', '.join(differs)}", hint="choose another --out"
        )


def _is_whole(out: Path, number: int, manifest: dict[str, Any]) -> bool:
    shard = _path(out, number, ".tar")
    return shard.is_file() and shard.stat().st_size == manifest["bytes"]


def _numbers(source: ImageSource, packing: Packing, number: int) -> range:
    return range(number * packing.per_shard, min((number + 1) * packing.per_shard, len(source)))


def _path(out: Path, number: int, suffix: str) -> Path:
    return out / f"shard-{number:06d}{suffix}"
