"""The perceptual hash against the imagehash library, and what it forgives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from datk.data.phash import distances, perceptual_hash, perceptual_hash_pair
from datk.data.photos import builtin_photos
from datk.depth.preprocess import read_image


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [read_image(p.path) for p in builtin_photos("validation")[:24]]


def apart(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_equals_the_library_on_a_picture_that_needs_no_resizing(photos: list[np.ndarray]) -> None:
    imagehash = pytest.importorskip("imagehash", reason="imagehash is not installed")
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    for photo in photos:
        small = cv2.resize(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
        grey = np.repeat(small[..., None], 3, 2)
        assert perceptual_hash(grey) == int(str(imagehash.phash(image.fromarray(small))), 16)
        # on the photograph itself the library's own resizing moves a bit or two
        assert apart(perceptual_hash(photo), int(str(imagehash.phash(image.fromarray(photo))), 16)) <= 4


def test_resizing_recompression_and_brightness_stay_within_the_default_distance(photos: list[np.ndarray]) -> None:
    for photo in photos:
        small = cv2.resize(photo, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
        changed = np.clip(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] * 1.1, 0, 255).astype(np.uint8)
        assert apart(perceptual_hash(photo), perceptual_hash(np.ascontiguousarray(changed))) <= 8


def test_the_mirrored_hash_is_the_hash_of_the_mirror_image(photos: list[np.ndarray]) -> None:
    for photo in photos:
        mirror = perceptual_hash(np.ascontiguousarray(photo[:, ::-1]))
        assert perceptual_hash_pair(photo)[0] == perceptual_hash(photo)
        assert apart(perceptual_hash_pair(photo)[1], mirror) <= 1, "INTER_AREA may round the other way"


def test_other_photographs_lie_farther_apart(photos: list[np.ndarray]) -> None:
    hashes = np.array([perceptual_hash(p) for p in photos], np.uint64)
    for index, value in enumerate(hashes):
        found = distances(int(value), hashes)
        assert found[index] == 0 and np.delete(found, index).min() > 8
