"""One shard, from images to a published manifest. The same function serves one process, many, and a Ray cluster.

Its bytes depend on the job alone: images in order, batches of one size formed within the shard, a number of
threads that belongs to the job.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import write_text
from datk.depth.label_quality import label_quality
from datk.depth.preprocess import decode_image
from datk.depth.teacher import Prepared, Teacher, crop_to_view, disparity_from
from datk.errors import DataError
from datk.train.labelling.claims import link_once
from datk.train.labelling.encoding import encode, error_bound
from datk.train.labelling.job import SCHEMA, Images, Job
from datk.train.labelling.quality import summary_of

THREADS = 2
"""Threads that decode ahead of the net, and as many that encode behind it."""
OPEN_BATCHES = 8
"""Batches' worth of photographs that may wait for others of their size."""
DECIMALS = 6


@dataclass(frozen=True)
class _Photo:
    """One image ready for the net, or why it is left out."""

    number: int
    key: str
    sha256: str = ""
    phash: int = 0
    prepared: Prepared | None = None
    left_out: dict[str, Any] | None = None
    """Why there is no `prepared`: a line of `quarantined` or of `kept_out`."""


def label_shard(job: Job, shard: int, images: Images, teacher: Teacher, *, on_batch: Callable[[int], None]) -> Path:
    """Label one shard into temporary files of this process and return the manifest's; publish() makes them count.

    on_batch(images done) is called between batches and may raise to stop. Raises DataError when the teacher's map is
    not finite; an image that cannot be decoded is quarantined, and one that shows a benchmark's image is kept out.
    """
    section = job.section
    labels: list[dict[str, Any]] = []
    quarantined: list[dict[str, Any]] = []
    kept_out: list[dict[str, Any]] = []
    done = 0
    token = f"{os.getpid()}.{os.urandom(4).hex()}"
    part = job.out / "shards" / f".{shard:06d}.{token}.tar.part"
    try:
        with part.open("wb") as file, ThreadPoolExecutor(THREADS, thread_name_prefix="encode") as encoders:
            waiting: deque[list[Future[tuple[dict[str, Any], bytes]]]] = deque()
            tar = _TarWriter(file)
            for group in _groups(_photos(job, shard, images, teacher), section.batch_size):
                for photo in group:
                    if photo.left_out is not None:
                        (kept_out if "benchmark" in photo.left_out else quarantined).append(photo.left_out)
                ready = [p for p in group if p.prepared is not None]
                if ready:
                    maps = _disparities(teacher, ready, job)
                    waiting.append(
                        [encoders.submit(_entry, p, *m, section.format) for p, m in zip(ready, maps, strict=True)]
                    )
                while len(waiting) > THREADS:
                    labels += [tar.add(*future.result()) for future in waiting.popleft()]
                done += len(group)
                on_batch(done)
            for futures in waiting:
                labels += [tar.add(*future.result()) for future in futures]
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = f"{shard:06d}-{digest[:16]}.tar"
        manifest = _manifest(job, shard, name, digest, part.stat().st_size, labels, quarantined, kept_out)
        target = job.out / "shards" / f".{shard:06d}.{token}.json.part"
        write_text(target, manifest)
        part.replace(job.out / "shards" / name)  # named by its content: whoever else makes it, makes the same file
    finally:
        part.unlink(missing_ok=True)
    return target


def publish(job: Job, shard: int, manifest: Path) -> bool:
    """Make a shard count, unless another worker's is there already. True when it was this one."""
    try:
        return link_once(manifest, job.manifest(shard))
    finally:
        manifest.unlink(missing_ok=True)


def _photos(job: Job, shard: int, images: Images, teacher: Teacher) -> Iterator[_Photo]:
    """Read, check and prepare in threads, in order, a few ahead of the net."""
    section = job.section

    def load(number: int) -> _Photo:
        key = images.key(number)
        try:
            data = images.encoded(number)
            photo = decode_image(data, name=key)
        except DataError as error:
            return _Photo(number, key, left_out={"number": number, "key": key, "reason": error.message})
        phash, hit = job.keep_out.hit(photo, section.leak_distance)
        if hit is not None:
            line = {"number": number, "key": key, "benchmark": hit.image, "distance": hit.distance}
            return _Photo(number, key, left_out=line | {"mirrored": hit.mirrored})
        return _Photo(number, key, hashlib.sha256(data).hexdigest(), phash, teacher.prepare(photo))

    ahead = section.batch_size + THREADS
    waiting: deque[Future[_Photo]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="photo") as pool:
        try:
            for number in job.numbers(shard):
                waiting.append(pool.submit(load, number))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _groups(photos: Iterator[_Photo], batch_size: int) -> Iterator[list[_Photo]]:
    """Photographs of one prepared size, a batch full; those left out go through alone; the rest at the end.

    Where photographs come in many sizes, the group opened first goes out unfilled, so that memory stays bounded.
    """
    open_groups: dict[tuple[int, ...], list[_Photo]] = {}
    for photo in photos:
        if photo.prepared is None:
            yield [photo]
            continue
        shape = photo.prepared.pixels.shape
        group = open_groups.setdefault(shape, [])
        group.append(photo)
        if len(group) == batch_size:
            yield open_groups.pop(shape)
        elif sum(map(len, open_groups.values())) > OPEN_BATCHES * batch_size:
            yield open_groups.pop(next(iter(open_groups)))
    yield from open_groups.values()


def _disparities(teacher: Teacher, photos: list[_Photo], job: Job) -> list[tuple[NDArray[np.float32], float | None]]:
    """(disparity, flip error or None) of each: (h, w) float32, the part that shows the photograph."""
    section = job.section
    prepared = [p.prepared for p in photos if p.prepared is not None]
    batch = np.stack([p.pixels for p in prepared])  # (B, 3, h, w)
    maps = disparity_from(teacher.predict(batch), teacher.depth_kind)  # (B, h', w')
    check = [section.flip_average or p.number % section.flip_check_every == 0 for p in photos]
    mirrored = np.full_like(maps, np.nan)
    if any(check):
        chosen = np.flatnonzero(check)
        flipped = np.ascontiguousarray(batch[chosen][..., ::-1])
        mirrored[chosen] = disparity_from(teacher.predict(flipped), teacher.depth_kind)[..., ::-1]
    found = []
    for index, photo in enumerate(photos):
        one, other = (crop_to_view(m, prepared[index].view) for m in (maps[index], mirrored[index]))
        if not np.isfinite(one).all() or (check[index] and not np.isfinite(other).all()):
            raise DataError(
                f"{photo.key}: the teacher's map is not finite", hint="check the teacher with datk validate"
            )
        error = _flip_error(one, other) if check[index] else None
        one, other = (shrunk(m, section.max_side) for m in (one, other))
        average = np.asarray((one + other) / 2, np.float32) if section.flip_average else one
        found.append((average, error))
    return found


def shrunk(disparity: NDArray[np.float32], max_side: int | None) -> NDArray[np.float32]:
    """(h, w) float32 with its longest side brought down to max_side by area averaging; smaller maps as they are."""
    h, w = disparity.shape
    if max_side is None or max(h, w) <= max_side:
        return disparity
    size = (max(1, round(w * max_side / max(h, w))), max(1, round(h * max_side / max(h, w))))
    return np.asarray(cv2.resize(disparity, size, interpolation=cv2.INTER_AREA))


def _flip_error(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean |difference| of the two maps, each stretched to 0..1."""

    def unit(values: NDArray[np.float32]) -> NDArray[np.float64]:
        low, span = float(values.min()), float(np.ptp(values))
        return (values.astype(np.float64) - low) / (span if span > 0 else 1.0)

    return float(np.abs(unit(one) - unit(other)).mean())


def _entry(
    photo: _Photo, disparity: NDArray[np.float32], flip_error: float | None, form: str
) -> tuple[dict[str, Any], bytes]:
    """A manifest's line and the label's bytes."""
    encoded = encode(disparity, form)
    quality = label_quality(disparity)
    line: dict[str, Any] = {
        "number": photo.number,
        "key": photo.key,
        "image_sha256": photo.sha256,
        "phash": f"{photo.phash:016x}",
        "sha256": hashlib.sha256(encoded.data).hexdigest(),
        "size": list(encoded.size),
        "scale": encoded.high - encoded.low,
        "shift": encoded.low,
        "error_rel": encoded.error_rel,
        "spread": round(quality.spread, DECIMALS),
        "saturated": round(quality.saturated_fraction, DECIMALS),
    }
    if quality.degenerate:
        line["degenerate"] = quality.reason
    if flip_error is not None:
        line["flip_error"] = round(flip_error, DECIMALS)
    return line, encoded.data


class _TarWriter:
    """USTAR with nothing in it that depends on when, where or by whom it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)

    def add(self, line: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Append one label; returns its line with the place it has in the file."""
        info = tarfile.TarInfo(f"{line['number']:010d}.png")
        info.size = len(data)
        begin = self._file.tell() + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(data))
        return {**line, "offset": begin, "bytes": len(data)}

    def close(self) -> None:
        self._tar.close()


def _manifest(
    job: Job,
    shard: int,
    name: str,
    digest: str,
    size: int,
    labels: list[dict[str, Any]],
    quarantined: list[dict[str, Any]],
    kept_out: list[dict[str, Any]],
) -> str:
    """Indented JSON, one line a label."""
    numbers = job.numbers(shard)
    labels = sorted(labels, key=lambda line: line["number"])
    assert sorted(line["number"] for line in [*labels, *quarantined, *kept_out]) == list(numbers)
    head = {
        "schema_version": SCHEMA,
        "job": job.key,
        "shard": shard,
        "first": numbers.start,
        "count": len(numbers),
        "teacher": {k: job.record["teacher"][k] for k in ("name", "digest", "licence")},
        "file": name,
        "sha256": digest,
        "bytes": size,
        "encoding": {
            "format": job.section.format,
            "max_error_rel_bound": error_bound(job.section.format),
            "max_error_rel_measured": max((line["error_rel"] for line in labels), default=0.0),
        },
        "quality": asdict(summary_of(labels)),
        "quarantined": sorted(quarantined, key=lambda line: line["number"]),
        "kept_out": sorted(kept_out, key=lambda line: line["number"]),
    }
    body = json.dumps(head, indent=1, ensure_ascii=False)
    lines = ",\n".join("  " + json.dumps(line, ensure_ascii=False) for line in labels)
    return f'{body[:-2]},\n "labels": [\n{lines}\n ]\n}}\n'
