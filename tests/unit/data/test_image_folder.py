"""Folders of photographs a user names: nothing is skipped silently."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datk.data.adapters.image_folder import read_image_folder
from datk.errors import DataError


def write_picture(path: Path, value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 9, 3), value, np.uint8))


def test_pictures_are_found_in_subfolders_in_path_order_and_hashed(tmp_path: Path) -> None:
    write_picture(tmp_path / "b.png")
    write_picture(tmp_path / "a" / "z.jpg", 3)
    (tmp_path / "notes.txt").write_text("no picture")
    steps: list[tuple[int, int]] = []
    folder = read_image_folder(tmp_path, licence="CC0", progress=lambda done, total: steps.append((done, total)))
    assert [p.path.name for p in folder.photos] == ["z.jpg", "b.png"]
    assert folder.photos[0].read().shape == (8, 9, 3)
    assert {p.licence for p in folder.photos} == {"CC0"}
    assert steps == [(1, 2), (2, 2)]
    assert folder.quarantined == ()


def test_unreadable_pictures_are_all_listed(tmp_path: Path) -> None:
    write_picture(tmp_path / "good.png")
    (tmp_path / "bad1.jpg").write_bytes(b"no jpeg")
    (tmp_path / "bad2.png").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 3 pictures cannot be read") as caught:
        read_image_folder(tmp_path)
    assert "bad1.jpg" in caught.value.message and "bad2.png" in caught.value.message


def test_quarantine_returns_unreadable_pictures_by_name(tmp_path: Path) -> None:
    write_picture(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"no jpeg")
    folder = read_image_folder(tmp_path, on_unreadable="quarantine")
    assert [q.path.name for q in folder.quarantined] == ["bad.jpg"]
    assert [p.name for p in folder.photos] == ["good.png"]


def test_a_folder_with_only_unreadable_pictures_is_refused_even_with_quarantine(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no jpeg")
    with pytest.raises(DataError, match="1 of 1 pictures cannot be read"):
        read_image_folder(tmp_path, on_unreadable="quarantine")
