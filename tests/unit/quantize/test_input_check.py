"""Calibration that saw something else than photographs in RGB is caught at every export, and named."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from datk.data.photos import builtin_photos
from datk.depth.preprocess import bucket_image, read_image
from datk.quantize.calibration import RECORD, record_of
from datk.quantize.input_check import check_calibration_input

SIZE = (56, 70)


@cache
def photos(split: str, count: int) -> tuple[np.ndarray, ...]:
    return tuple(bucket_image(read_image(p.path), SIZE) for p in builtin_photos(split)[:count])


def check(images) -> dict:
    return check_calibration_input(record_of(images)[RECORD], photos("validation", 50))


@pytest.mark.parametrize("count", [16, 48])
def test_photographs_as_the_net_is_fed_them_pass(count):
    assert check(photos("calibration", count))["status"] == "passed"


@pytest.mark.parametrize("count", [16, 48])
def test_wrong_colour_order_is_named(count):
    found = check([p[..., ::-1] for p in photos("calibration", count)])
    assert found["status"] == "failed" and "wrong colour order" in found["detail"]


def test_double_normalisation_is_named():
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for change in (lambda p: (p / 255 - mean) / std, lambda p: p / 255):
        found = check([np.clip(np.round(change(p)), 0, 255).astype(np.uint8) for p in photos("calibration", 16)])
        assert found["status"] == "failed" and "double normalisation" in found["detail"]


def test_a_blue_world_is_not_taken_for_bgr():
    """Under water everything is blue, far bluer than a photograph with red and blue swapped."""
    tint = np.array([0.3, 0.8, 1.2])
    blue = [np.clip(p * tint, 0, 255).astype(np.uint8) for p in photos("calibration", 48)]
    assert check(blue)["status"] != "passed"
    assert "wrong colour order" not in check(blue)["detail"] or "that blue in truth" in check(blue)["detail"]


def test_too_few_or_grey_images_are_not_measured_rather_than_passed():
    assert check(photos("calibration", 3))["status"] == "not_measured"
    grey = [p[..., :1].repeat(3, -1) for p in photos("calibration", 9)]
    assert check(grey)["status"] == "not_measured"
