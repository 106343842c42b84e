"""The finished benchmark: DA-2K's own JSON and folders, and beside them where each picture is from."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datk.artifact.files import atomic_path, sha256_file, write_json, write_text
from datk.bench_builder.database import Database
from datk.bench_builder.image_list import HEADER, ListedImage
from datk.bench_builder.pictures import pictures
from datk.bench_builder.queue import AnsweredPair, all_pairs
from datk.bench_builder.standing import Standing, standing
from datk.bench_builder.voting import Choice
from datk.errors import DataError, UsageError

SOURCES_CSV = "sources.csv"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    out: Path
    images: int
    pairs: int
    left_out: dict[Standing, int]
    """Pairs that are not accepted, by where they stand."""


def export(db: Database, listed: Sequence[ListedImage], out: Path, *, checkers: int, easy: bool = False) -> Exported:
    """Write every accepted pair below `out`: annotations.json, images/<scene>/<file>, sources.csv.

    The layout is DA-2K's: points [row, column] in pixels of the original, the closer one always point1. easy: also
    export accepted pairs the experts were unanimous on. annotations.json comes last, so that a folder which has it is
    whole. Raises UsageError when nothing is accepted yet or `out` holds files that are not this benchmark's,
    DataError for a picture that is gone, changed or no longer listed with a licence.
    """
    pairs = [p for p in all_pairs(db) if easy or p.queue != "easy"]
    where = {p.id: standing([c for _, c in p.answers], checkers=checkers) for p in pairs}
    accepted = [p for p in pairs if where[p.id] is Standing.ACCEPTED]
    if not accepted:
        raise UsageError(
            f"{db.folder}: no pair is accepted yet: {checkers + 1} people must name the same side",
            hint=f"datk bench stats {db.folder}",
        )
    lines = {image.path: image for image in listed}
    digests = {p.path: p.sha256 for p in pictures(db)}
    used = sorted({p.path for p in accepted})
    _check(db, used, lines, digests, out)
    for path in used:
        with atomic_path(out / path) as part:
            shutil.copyfile(db.folder / path, part)
    write_text(out / SOURCES_CSV, _sources([lines[path] for path in used]))
    annotations: dict[str, list[dict[str, object]]] = {path: [] for path in used}
    for pair in accepted:
        annotations[pair.path].append(_entry(pair))
    write_json(out / "annotations.json", annotations)
    left = [w for w in where.values() if w is not Standing.ACCEPTED]
    return Exported(
        out=out, images=len(used), pairs=len(accepted), left_out={s: left.count(s) for s in Standing if s in left}
    )


def _entry(pair: AnsweredPair) -> dict[str, object]:
    closer, farther = pair.first, pair.second
    if pair.answers[0][1] is Choice.SECOND:
        closer, farther = farther, closer
    return {"point1": list(closer), "point2": list(farther), "closer_point": "point1"}


def _check(
    db: Database, used: Sequence[str], lines: dict[str, ListedImage], digests: dict[str, str], out: Path
) -> None:
    problems = []
    for path in used:
        if path not in lines:
            problems.append(f"{path}: not in images.csv any more, so without a licence")
        elif not (db.folder / path).is_file():
            problems.append(f"{path}: gone")
        elif sha256_file(db.folder / path) != digests[path]:
            problems.append(f"{path}: another file than the one its pairs were marked on")
    if problems:
        raise DataError("\n  ".join([f"{db.folder}: {len(problems)} problems", *problems[:10]]))
    ours = {"annotations.json", SOURCES_CSV, *used}
    there = (p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    if strange := sorted(set(there) - ours):
        raise UsageError(
            f"{out}: holds {len(strange)} files that this benchmark has not, first {strange[0]}",
            hint="name a new folder",
        )


def _sources(images: Sequence[ListedImage]) -> str:
    handle = io.StringIO()
    lines = csv.DictWriter(handle, ["image", *HEADER], lineterminator="\n")
    lines.writeheader()
    for image in images:
        lines.writerow({"image": image.path, **{name: getattr(image, name) for name in HEADER}})
    return handle.getvalue()
