"""The one preprocessing equals the documented official path, and the output resize equals torch's."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datk.depth import preprocess
from datk.errors import DataError, UsageError


def official_path(bgr: np.ndarray, input_size: int) -> np.ndarray:
    """Written from the documentation (facts 2.1): BGR in, lower bound, multiple of 14, cubic on float64, ImageNet."""
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB) / 255.0
    height, width = rgb.shape[:2]
    scale_h, scale_w = input_size / height, input_size / width
    scale = scale_w if scale_w > scale_h else scale_h
    sides = []
    for side in (height, width):
        wanted = scale * side
        rounded = int(np.round(wanted / 14) * 14)
        sides.append(rounded if rounded >= input_size else int(math.ceil(wanted / 14) * 14))
    resized = cv2.resize(rgb, (sides[1], sides[0]), interpolation=cv2.INTER_CUBIC)
    out = (resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return np.transpose(out, (2, 0, 1)).astype(np.float32)[None]


@given(st.integers(40, 400), st.integers(40, 400), st.sampled_from([126, 252, 518]))
@settings(max_examples=25, deadline=None)
def test_official_input_equals_the_documented_path(height: int, width: int, input_size: int) -> None:
    rgb = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours = preprocess.official_input(rgb, input_size)
    theirs = official_path(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), input_size)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1e-6


@pytest.mark.parametrize(("size", "expected"), [((480, 640), (518, 686)), ((375, 1242), (518, 1722))])
def test_lower_bound_gives_the_published_sizes(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert preprocess.lower_bound_size(size) == expected


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_lower_bound_sides_are_multiples_of_14_and_large_enough(height: int, width: int) -> None:
    sides = preprocess.lower_bound_size((height, width))
    assert all(side % 14 == 0 and side >= 518 for side in sides)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 90), st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_output_resize_equals_torch_bilinear_align_corners(h: int, w: int, height: int, width: int) -> None:
    depth = np.random.default_rng(h * w).random((h, w), dtype=np.float32)
    ours = preprocess.resize_output(depth, (height, width))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(depth)[None, None].double(), (height, width), mode="bilinear", align_corners=True
    )
    assert np.abs(ours - theirs[0, 0].numpy()).max() <= 1e-6


def test_bucket_image_is_the_float_path_rounded_and_clipped() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    small = preprocess.bucket_image(photo, (56, 70))
    exact = np.clip(cv2.resize(photo.astype(np.float64), (70, 56), interpolation=cv2.INTER_CUBIC), 0, 255)
    assert small.dtype == np.uint8
    assert np.abs(small - exact).max() <= 1.0  # rounding, and OpenCV's fixed-point kernel on 8-bit images


def test_bucket_tensor_of_an_image_already_at_size_equals_the_float_path() -> None:
    photo = np.random.default_rng(1).integers(0, 256, (56, 70, 3), dtype=np.uint8)
    ours = preprocess.bucket_tensor(preprocess.bucket_image(photo, (56, 70)))
    assert np.array_equal(ours, preprocess.float_input(photo, (56, 70)))


@pytest.mark.parametrize(("text", "size"), [("518", (518, 518)), ("392x518", (392, 518)), ("14X28", (14, 28))])
def test_sizes_are_height_by_width(text: str, size: tuple[int, int]) -> None:
    assert preprocess.parse_size(text) == size


def test_a_size_that_is_no_multiple_of_14_names_the_two_nearest() -> None:
    with pytest.raises(UsageError, match="nearest are 490 and 504"):
        preprocess.parse_size("500")


@pytest.mark.parametrize("text", ["", "x", "518x", "-14", "0", "14x14x14", "ten"])
def test_nonsense_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        preprocess.parse_size(text)


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("a.jpg", "empty.jpg", "missing.jpg"):
        with pytest.raises(DataError, match=name):
            preprocess.read_image(tmp_path / name)


def test_grey_and_alpha_pictures_become_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((5, 7), 80, np.uint8))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.full((5, 7, 4), 80, np.uint8))
    for name in ("grey.png", "alpha.png"):
        assert preprocess.read_image(tmp_path / name).shape == (5, 7, 3)


def test_pictures_are_read_as_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 4, 3), (0, 0, 255), np.uint8))
    assert preprocess.read_image(tmp_path / "red.png")[0, 0].tolist() == [255, 0, 0]
