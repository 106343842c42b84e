"""Finished pseudo-labels as a source of training samples: by number, from any thread, without unpacking."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.data.sources import ImageSource, open_images
from datk.errors import DataError
from datk.train.labelling.encoding import decode
from datk.train.labelling.job import Job, keys_digest, open_job
from datk.train.labelling.work import read_manifest, summary

OPEN_FILES = 64


@dataclass(frozen=True)
class _Places:
    """Where each usable label lies; one row a label, in the order of image numbers: 24 bytes each."""

    number: NDArray[np.int64]
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    length: NDArray[np.int32]


class LabelFolder:
    """The usable labels of a finished folder: degenerate ones, quarantined images and images kept out are left out."""

    def __init__(self, job: Job, files: list[Path], places: _Places) -> None:
        self.job, self._files, self._places = job, files, places
        self._open: OrderedDict[int, int] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._places.number)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """(N,) numbers, in the source of images, of the images the labels belong to; rising."""
        return self._places.number

    @property
    def images_sha256(self) -> str:
        """Of the names of all images of the source, in order."""
        return str(self.job.record["images"]["keys_sha256"])

    def number(self, index: int) -> int:
        """Number, in the source of images, of the image that label `index` belongs to."""
        return int(self._places.number[index])

    def index_of(self, number: int) -> int | None:
        """Which label belongs to an image of the source; None when that one has no usable label."""
        index = int(np.searchsorted(self._places.number, number))
        return index if index < len(self) and self.number(index) == number else None

    def label(self, index: int) -> NDArray[np.float32]:
        """(h, w) float32 disparity in 0..1, 1 nearest. Raises DataError naming a damaged file."""
        where = f"{self._files[int(self._places.shard[index])]}, image {self.number(index)}"
        return decode(self.encoded(index), self.job.section.format, where=where)

    def encoded(self, index: int) -> bytes:
        """The label as stored: a 16-bit grey PNG, 0 farthest, in the codes of the job's format."""
        shard = int(self._places.shard[index])
        return self._bytes(shard, int(self._places.offset[index]), int(self._places.length[index]))

    def _bytes(self, shard: int, offset: int, length: int) -> bytes:
        with self._lock:  # also keeps the file open while it is read
            handle = self._open.pop(shard, None)
            if handle is None:
                handle = os.open(self._files[shard], os.O_RDONLY)
                if len(self._open) >= OPEN_FILES:
                    os.close(self._open.popitem(last=False)[1])
            self._open[shard] = handle
            return os.pread(handle, length, offset)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        self.close()


def open_labels(folder: Path) -> LabelFolder:
    """Raises DataError when the folder is not finished, a shard is missing or cut short, or no label is usable."""
    job = open_job(folder)
    summary(job)
    files: list[Path] = []
    columns = [np.empty((0, 4), np.int64)]
    for shard in range(job.shards):
        manifest = read_manifest(job, shard)
        path = folder / "shards" / manifest["file"]
        size = path.stat().st_size if path.is_file() else None
        if size != manifest["bytes"]:
            found = "missing" if size is None else f"{size} bytes instead of {manifest['bytes']}"
            raise DataError(f"{path}: {found}", hint=f"delete {job.manifest(shard)} and index.json and label again")
        files.append(path)
        rows = [
            (line["number"], shard, line["offset"], line["bytes"])
            for line in manifest["labels"]
            if "degenerate" not in line
        ]
        columns.append(np.array(rows, np.int64).reshape(-1, 4))
    table = np.concatenate(columns)
    if len(table) == 0:
        raise DataError(f"{folder}: no usable label; the teacher put out constants", hint="look at its quality figures")
    places = _Places(table[:, 0].copy(), table[:, 1].astype(np.int32), table[:, 2].copy(), table[:, 3].astype(np.int32))
    return LabelFolder(job, files, places)


def images_of(labels: LabelFolder, spec: str | None = None) -> ImageSource:
    """The source the labels were made from, opened again where it was, or where spec says it is now.

    Raises DataError when it has changed: other images, or the same in another order.
    """
    images = open_images(spec or labels.job.record["source"])
    expected = labels.job.record["images"]
    if len(images) != expected["count"] or keys_digest(images) != expected["keys_sha256"]:
        raise DataError(
            f"{images.name}: not the {expected['count']} images that were labelled into {labels.job.out}",
            hint="put the source back as it was, or label again",
        )
    return images


def left_out(folder: Path) -> dict[int, str]:
    """Why images of a finished folder have no usable label, by number: unreadable, kept out, degenerate."""
    job = open_job(folder)
    found: dict[int, str] = {}
    for shard in range(job.shards):
        manifest = read_manifest(job, shard)
        found |= {line["number"]: line["reason"] for line in manifest["quarantined"]}
        found |= {line["number"]: f"shows {line['benchmark']}" for line in manifest["kept_out"]}
        found |= {line["number"]: line["degenerate"] for line in manifest["labels"] if "degenerate" in line}
    return found


def label_lines(folder: Path) -> dict[int, dict[str, Any]]:
    """What the manifests of a finished folder say of each label, usable or not, by the number of its image."""
    job = open_job(folder)
    return {line["number"]: line for shard in range(job.shards) for line in read_manifest(job, shard)["labels"]}


def check_folder(folder: Path) -> dict[str, Any]:
    """Read every label and compare sha256: {"labels": n, "bytes": b}. Raises DataError naming the first bad one."""
    job = open_job(folder)
    labels = size = 0
    for shard in range(job.shards):
        manifest = read_manifest(job, shard)
        data = (folder / "shards" / manifest["file"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            raise DataError(f"{manifest['file']}: changed since it was written", hint="label that shard again")
        for line in manifest["labels"]:
            label = data[line["offset"] : line["offset"] + line["bytes"]]
            if hashlib.sha256(label).hexdigest() != line["sha256"]:
                raise DataError(f"{manifest['file']}, {line['key']}: label changed", hint="label that shard again")
            labels, size = labels + 1, size + len(label)
    return {"labels": labels, "bytes": size}
