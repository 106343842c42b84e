"""The teacher's disparity of unlabelled photographs, stored min-max normalised in 16 bits.

Layout: out/labels/000000.png (or .npy), out/labels.jsonl (one line a finished photograph, the ledger an interrupted
run resumes from) and out/index.json (the whole, with sha256 of every picture and label).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datk.artifact.files import atomic_path, sha256_file, write_json
from datk.config.train_sections import PseudoLabelSection
from datk.depth.io_spec import Size
from datk.depth.preprocess import float_input, lower_bound_size, read_image
from datk.errors import DataError
from datk.models.depth_anything import DepthAnything
from datk.train.loop import Progress
from datk.train.precision import autocast, choose_device, choose_precision
from datk.train.sources import PNG_MAX, LabelledPhoto
from datk.train.start import fingerprint, weights_digest

INDEX = "index.json"
LEDGER = "labels.jsonl"
READ_THREADS = 2
NEAREST_M = 1e-2
"""Depth in metres below which a metric teacher's output counts as this near, so that its inverse stays finite."""


@dataclass(frozen=True)
class LabelSummary:
    """count: labels in the folder. constant: photographs without any spread, labelled but never trained on."""

    folder: Path
    count: int
    constant: int
    reused: int
    """Labels an earlier, interrupted call had already made."""
    precision: str
    device: str


@dataclass(frozen=True)
class _Job:
    """One photograph to label. pixels: (1, 3, h, w) float32 normalised."""

    number: int
    path: Path
    pixels: NDArray[np.float32]


def label_photos(
    teacher: DepthAnything,
    photos: Sequence[Path],
    out: Path,
    section: PseudoLabelSection,
    *,
    device: str = "auto",
    precision: str = "auto",
    progress: Progress | None = None,
) -> LabelSummary:
    """Label photos (files, in this order); a second call with the same arguments only fills what is missing.

    A label is (disparity - shift) / scale with scale = max - min, shift = min of the photograph's map, at the size
    the teacher saw; scale and shift stand in the index; a metric teacher's depth is inverted first. Raises DataError
    for no photographs, an unreadable one, or a folder holding labels of another teacher, list or section;
    EnvironmentLacks for device or precision.
    """
    if not photos:
        raise DataError("no photographs to label", hint="name a folder with --images")
    chosen_device = choose_device(device)
    chosen_precision = choose_precision(precision, chosen_device)
    key = fingerprint(section, teacher=weights_digest(teacher), photos=[str(p) for p in photos])
    (out / "labels").mkdir(parents=True, exist_ok=True)
    ledger = _Ledger(out / LEDGER, key)
    reused = len(ledger.entries)
    todo = [(number, path) for number, path in enumerate(photos) if number not in ledger.entries]
    teacher.to(chosen_device).eval()
    with torch.inference_mode(), ledger:
        for jobs in _batches(_jobs(todo, section), section.batch_size):
            stacked = torch.from_numpy(np.concatenate([job.pixels for job in jobs])).to(chosen_device)  # (B, 3, h, w)
            with autocast(chosen_device, chosen_precision):
                maps = _disparity(teacher, stacked)  # (B, h, w)
                if section.flip_average:
                    maps = (maps + _disparity(teacher, stacked.flip(3)).flip(2)) / 2
            for job, disparity in zip(jobs, maps.cpu().numpy(), strict=True):
                ledger.add(job.number, _write_label(job, disparity, out, section.format))
            if progress is not None:
                progress(len(ledger.entries), len(photos))
    teacher.to("cpu")
    entries = [ledger.entries[number] for number in range(len(photos))]
    write_json(out / INDEX, {"fingerprint": key, "section": section.model_dump(mode="json"), "labels": entries})
    constant = sum(entry["scale"] == 0 for entry in entries)
    return LabelSummary(out, len(entries), constant, reused, chosen_precision, str(chosen_device))


def _disparity(teacher: DepthAnything, images: Tensor) -> Tensor:
    """(B, 3, h, w) normalised -> (B, h, w) float32 inverse depth; a metric teacher's depth is inverted."""
    output = cast(Tensor, teacher(images)).float()
    return output if teacher.max_depth_m is None else 1 / output.clamp(min=NEAREST_M)


def load_labels(folder: Path) -> list[LabelledPhoto]:
    """The labelled photographs of a finished folder, those with a constant map left out.

    Raises DataError when there is no index, nothing usable in it, or a photograph or label is gone.
    """
    path = folder / INDEX
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["labels"]
        found = [LabelledPhoto(Path(e["image"]), folder / e["label"]) for e in entries if e["scale"] > 0]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no finished pseudo-labels ({error})", hint="run the pseudo-label stage first"
        ) from error
    if not found:
        raise DataError(f"{path}: no label with any spread; the teacher put out constants")
    gone = [p for photo in found for p in (photo.image_path, photo.label_path) if not p.is_file()]
    if gone:
        raise DataError(f"{gone[0]}: named in {path} but missing ({len(gone)} files are)", hint="label again")
    return found


def _jobs(todo: Iterable[tuple[int, Path]], section: PseudoLabelSection) -> Iterator[_Job]:
    """Decode ahead of the net, in order, holding no more than a few pictures."""

    def read(number: int, path: Path) -> _Job:
        photo = read_image(path)
        size = section.input_size or lower_bound_size((photo.shape[0], photo.shape[1]), section.short_side)
        return _Job(number, path, float_input(photo, size))

    items = list(todo)
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="photo") as pool:
        window = max(READ_THREADS * 2, section.batch_size)
        for begin in range(0, len(items), window):
            yield from pool.map(lambda item: read(*item), items[begin : begin + window])


def _batches(jobs: Iterable[_Job], batch_size: int) -> Iterator[list[_Job]]:
    """Groups of pictures of one size; a group goes out when full, the rest at the end."""
    waiting: dict[Size, list[_Job]] = {}
    for job in jobs:
        size = (job.pixels.shape[2], job.pixels.shape[3])
        group = waiting.setdefault(size, [])
        group.append(job)
        if len(group) == batch_size:
            yield waiting.pop(size)
    yield from waiting.values()


def _write_label(job: _Job, disparity: NDArray[np.float32], out: Path, form: str) -> dict[str, Any]:
    """Store one map; returns its index entry. Raises DataError when the teacher's map is not finite."""
    if not np.isfinite(disparity).all():
        raise DataError(f"{job.path}: the teacher's map is not finite", hint="check the teacher with datk validate")
    low, high = float(disparity.min()), float(disparity.max())
    unit = (disparity - low) / (high - low) if high > low else np.zeros_like(disparity)
    name = f"labels/{job.number:06d}.{'png' if form == 'png16' else 'npy'}"
    with atomic_path(out / name) as part:
        if form == "png16":
            written, data = cv2.imencode(".png", np.round(unit * PNG_MAX).astype(np.uint16))
            assert written
            data.tofile(part)
        else:
            np.save(part, unit.astype(np.float16))
    return {
        "image": str(job.path),
        "image_sha256": sha256_file(job.path),
        "label": name,
        "label_sha256": sha256_file(out / name),
        "size": [disparity.shape[0], disparity.shape[1]],
        "scale": high - low,
        "shift": low,
    }


class _Ledger:
    """labels.jsonl: a first line with the run's key, then a line a label; a torn last line is dropped."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.entries = path, dict[int, dict[str, Any]]()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if lines and _parsed(lines[0]) != {"fingerprint": key}:
            raise DataError(
                f"{path}: labels of another teacher, list of photographs or section lie here",
                hint=f"name another folder, or delete {path.parent}",
            )
        for entry in filter(None, map(_parsed, lines[1:])):
            if (path.parent / entry["label"]).is_file():
                self.entries[entry["number"]] = {k: v for k, v in entry.items() if k != "number"}
        with atomic_path(path) as part:
            kept = [{"fingerprint": key}, *({"number": n, **entry} for n, entry in self.entries.items())]
            part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def __enter__(self) -> _Ledger:
        self.handle = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.flush()
        os.fsync(self.handle.fileno())
        self.handle.close()

    def add(self, number: int, entry: dict[str, Any]) -> None:
        self.handle.write(json.dumps({"number": number, **entry}) + "\n")
        self.handle.flush()
        self.entries[number] = entry


def _parsed(line: str) -> dict[str, Any] | None:
    """The line's object, or None when it was cut off while being written."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
