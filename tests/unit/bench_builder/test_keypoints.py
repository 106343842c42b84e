"""Candidate points lie inside things."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from datk.bench_builder.keypoints import SuperpixelPoints


def discs(size: tuple[int, int] = (240, 320)) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Coloured discs on grey, and each disc's number (0 = ground)."""
    picture = np.full((*size, 3), 110, np.uint8)
    label = np.zeros(size, np.uint8)
    for k, (row, column) in enumerate([(60, 70), (60, 240), (170, 160)], start=1):
        cv2.circle(picture, (column, row), 34, (60 * k, 250 - 70 * k, 30 * k), -1)
        cv2.circle(label, (column, row), 34, k, -1)
    return picture, label


def test_every_thing_gets_points_and_none_lies_on_a_border() -> None:
    picture, label = discs()
    points = SuperpixelPoints(cell=24).find(picture)
    assert set(label[points[:, 0], points[:, 1]].tolist()) == {0, 1, 2, 3}
    border = cv2.dilate(label, np.ones((3, 3), np.uint8)) != cv2.erode(label, np.ones((3, 3), np.uint8))
    assert border[points[:, 0], points[:, 1]].mean() < 0.02


@pytest.mark.parametrize("size", [(1500, 2000), (333, 1024), (40, 50), (512, 512), (1200, 90)])
def test_points_are_distinct_inside_the_picture_and_plenty(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    points = SuperpixelPoints().find(picture)
    assert points.dtype == np.int32 and len(points) >= 2
    assert len(np.unique(points, axis=0)) == len(points)
    assert (points >= 0).all() and (points < np.array(size)).all()


def test_points_scale_with_the_picture() -> None:
    picture, _ = discs((480, 640))
    small = SuperpixelPoints(short_side=240, cell=24).find(
        cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA)
    )
    large = SuperpixelPoints(short_side=240, cell=24).find(picture)
    assert len(large) == len(small)
    assert np.abs(large - (2 * small + 1)).max() <= 1


def test_the_same_picture_gives_the_same_points() -> None:
    picture, _ = discs()
    np.testing.assert_array_equal(SuperpixelPoints().find(picture), SuperpixelPoints().find(picture))


def test_a_flat_picture_still_has_points() -> None:
    assert len(SuperpixelPoints().find(np.zeros((100, 150, 3), np.uint8))) >= 2
