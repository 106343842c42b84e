"""How the shipped photographs were chosen: rules that must hold for any source folder."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from datk.calibration_data import select_photos
from datk.calibration_data.select_photos import difference_hash, group_of, select, share_alike


@pytest.fixture
def collected(tmp_path: Path) -> Path:
    """24 crops of 4 panoramas, 60 Caltech pictures of 6 classes, one share-alike and one copy of a panorama crop."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, str]] = []

    def add(name: str, source: str, original: str, licence: str, picture: np.ndarray) -> None:
        cv2.imwrite(str(tmp_path / name), picture)
        row = {"file": name, "width": "64", "height": "48", "source": source, "original": original}
        rows.append({**row, "licence": licence, "credit": "somebody"})

    def picture() -> np.ndarray:
        return cv2.resize(rng.integers(0, 255, (8, 9, 3), dtype=np.uint8), (64, 48), interpolation=cv2.INTER_NEAREST)

    for k in range(24):
        add(f"panorama_{k:04d}.png", "panorama", f"x:place{k // 6}.hdr (perspective crop {k})", "CC0 1.0", picture())
    for k in range(60):
        add(
            f"caltech101_{k:04d}.png", "caltech101", f"x:101_ObjectCategories/c{k % 6}/i{k}.jpg", "CC BY 4.0", picture()
        )
    add("lomiri_0000.png", "lomiri", "x:a.jpg", "CC-BY-SA-4.0", picture())
    add("gb82_0000.png", "gb82", "x:copy.png", "CC0 1.0", cv2.imread(str(tmp_path / "panorama_0003.png")))
    with (tmp_path / "manifest.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select_photos, "TOTAL", 60)
    monkeypatch.setattr(select_photos, "VALIDATION", 15)
    monkeypatch.setattr(select_photos, "CALIBRATION", 20)


def test_selection_repeats(collected: Path) -> None:
    assert select(collected) == select(collected)


def test_share_alike_and_near_duplicates_of_another_place_stay_out(collected: Path) -> None:
    names = {str(e["file"]) for e in select(collected)}
    assert "photos/lomiri_0000.png" not in names
    assert len({"photos/gb82_0000.png", "photos/panorama_0003.png"} & names) == 1
    assert len(names) == 60
    assert share_alike("CC BY-SA 4.0") and share_alike("CC-BY-SA-4.0") and not share_alike("CC-BY-4.0")


def test_a_place_is_never_divided(collected: Path) -> None:
    splits: dict[str, set[object]] = {}
    for e in select(collected):
        splits.setdefault(group_of({k: str(v) for k, v in e.items()}), set()).add(e["split"])
    assert all(len(s) == 1 for s in splits.values())


def test_every_class_and_both_splits_get_their_share(collected: Path) -> None:
    entries = select(collected)
    held_out = [e for e in entries if e["split"] == "validation"]
    assert 12 <= len(held_out) <= 18
    assert {e["source"] for e in held_out} == {"panorama", "caltech101"}
    classes = {str(e["original"]).split("/")[1] for e in entries if e["source"] == "caltech101"}
    assert len(classes) == 6
    assert sum(bool(e["calibration"]) for e in entries) == 20
    assert not [e for e in held_out if e["calibration"]]


def test_difference_hash_ignores_size_and_brightness(collected: Path, tmp_path: Path) -> None:
    original = cv2.imread(str(collected / "panorama_0000.png"))
    cv2.imwrite(str(tmp_path / "other.png"), cv2.resize(original, (128, 96)) // 2 + 20)
    distance = difference_hash(collected / "panorama_0000.png") ^ difference_hash(tmp_path / "other.png")
    assert np.count_nonzero(distance) <= 4
