"""Makes calibration_data/photos and index.json from a folder of collected photographs.

    python calibration_data/select_photos.py FOLDER [--out calibration_data]

FOLDER holds the pictures and a manifest.csv with the columns file, width, height, source, original, licence, credit.
Deterministic: the same folder gives the same selection. Files are copied byte for byte.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.artifact.files import write_json

TOTAL = 300
VALIDATION = 72
CALIBRATION = 128
SEED = 20240613
WHOLE_SOURCES = ("panorama", "gb82", "kodak", "lanes", "oakd", "skimage", "sklearn", "lomiri")
FILLER = "caltech101"
NEAR_DUPLICATE_BITS = 8
"""Two pictures whose 64-bit difference hashes differ in at most this many bits count as one view."""

Row = dict[str, str]


def share_alike(licence: str) -> bool:
    """CC BY-SA files stay out: a derived data set would have to carry the same licence."""
    return "BY-SA" in licence.upper().replace(" ", "-")


def group_of(row: Row) -> str:
    """Pictures of one place share a group; a group is never divided between train and validation."""
    original = row["original"]
    if row["source"] == "panorama":
        return original.split(" (")[0]
    if row["source"] == "lanes":
        return "lanes yellow" if "Yellow" in original or "Switch" in original else "lanes white"
    return original


def stratum_of(row: Row) -> str:
    """What variety is spread over: the Caltech class, else the source."""
    match = re.search(r"101_ObjectCategories/([^/]+)/", row["original"])
    return match.group(1) if match else row["source"]


def difference_hash(path: Path) -> NDArray[np.bool_]:
    """64 bits: is each pixel of the 9x8 grey thumbnail brighter than its right neighbour?"""
    grey = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    small = cv2.resize(np.asarray(grey), (9, 8), interpolation=cv2.INTER_AREA)
    return np.asarray(small[:, :-1] > small[:, 1:]).ravel()


def shuffled(rows: Sequence[Row], seed: int) -> list[Row]:
    """Order by a hash of the name: does not change when other files come or go."""
    return sorted(rows, key=lambda r: hashlib.sha256(f"{seed}:{r['file']}".encode()).hexdigest())


def round_robin(rows: Sequence[Row], seed: int) -> list[Row]:
    """One of each stratum in turn, strata in seeded order: any prefix is as varied as it can be."""
    by_stratum: dict[str, list[Row]] = defaultdict(list)
    for row in shuffled(rows, seed):
        by_stratum[stratum_of(row)].append(row)
    depth = max(len(v) for v in by_stratum.values())
    return [rows_[k] for k in range(depth) for rows_ in by_stratum.values() if k < len(rows_)]


def drop_near_duplicates(rows: Sequence[Row], hashes: dict[str, NDArray[np.bool_]]) -> list[Row]:
    """Keep a picture only when no kept one of another group looks the same."""
    kept: list[Row] = []
    for row in rows:
        twins = (k for k in kept if group_of(k) != group_of(row))
        if all(np.count_nonzero(hashes[k["file"]] ^ hashes[row["file"]]) > NEAR_DUPLICATE_BITS for k in twins):
            kept.append(row)
    return kept


def split_validation(rows: Sequence[Row], count: int) -> set[str]:
    """File names of the validation split: each source gives its share, whole groups only."""
    chosen: set[str] = set()
    sources: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        sources[row["source"]][group_of(row)].append(row)
    for groups in sources.values():
        total = sum(len(g) for g in groups.values())
        want = round(count * total / len(rows))
        for group in groups.values():
            if want > 0 and len(group) <= want + 1:
                chosen.update(r["file"] for r in group)
                want -= len(group)
    return chosen


def spread(rows: Sequence[Row]) -> list[Row]:
    """Interleave the sources in proportion, so that the first n of a split are a fair sample of it."""
    by_source: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_source[row["source"]].append(row)
    position = {r["file"]: (k + 0.5) / len(group) for group in by_source.values() for k, r in enumerate(group)}
    return sorted(rows, key=lambda r: (position[r["file"]], r["source"]))


def select(folder: Path) -> list[dict[str, object]]:
    """Index entries of the selection, in index order."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as handle:
        usable = [r for r in csv.DictReader(handle) if not share_alike(r["licence"])]
    wanted = [r for r in usable if r["source"] in WHOLE_SOURCES]
    filler = round_robin([r for r in usable if r["source"] == FILLER], SEED)
    hashes = {r["file"]: difference_hash(folder / r["file"]) for r in (*wanted, *filler)}
    rows = drop_near_duplicates([*shuffled(wanted, SEED), *filler], hashes)[:TOTAL]
    validation = split_validation(rows, VALIDATION)
    entries: list[dict[str, object]] = []
    train_seen = 0
    train = spread([r for r in rows if r["file"] not in validation])
    for row in [*train, *spread([r for r in rows if r["file"] in validation])]:
        held_out = row["file"] in validation
        train_seen += not held_out
        data = (folder / row["file"]).read_bytes()
        entries.append(
            {
                "file": f"photos/{row['file']}",
                "sha256": hashlib.sha256(data).hexdigest(),
                "split": "validation" if held_out else "train",
                "calibration": not held_out and train_seen <= CALIBRATION,
                "width": int(row["width"]),
                "height": int(row["height"]),
                "source": row["source"],
                "original": row["original"],
                "licence": row["licence"],
                "credit": row["credit"],
            }
        )
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    entries = select(arguments.folder)
    photos = arguments.out / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        shutil.copyfile(arguments.folder / Path(str(entry["file"])).name, arguments.out / str(entry["file"]))
    write_json(arguments.out / "index.json", {"schema_version": 1, "seed": SEED, "photos": entries})
    splits = [e["split"] for e in entries]
    print(json.dumps({s: splits.count(s) for s in sorted(set(map(str, splits)))}), len(entries), "photographs")


if __name__ == "__main__":
    main()
