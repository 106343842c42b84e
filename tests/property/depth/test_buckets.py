"""The choice of a bucket: one rule, the same however its arguments are turned."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datk.depth.buckets import choose_bucket, native_size
from datk.depth.io_spec import DepthKind, Size
from datk.pipeline.bucket_cost import measure_cost

SIDE = st.integers(1, 4000)
PHOTO = st.tuples(SIDE, SIDE)
BUCKETS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)).map(lambda s: (14 * s[0], 14 * s[1])), min_size=1)


def stretch(photo: Size, bucket: Size) -> float:
    """Independent of the code: how far the two scales of the resize lie apart."""
    down, across = bucket[0] / photo[0], bucket[1] / photo[1]
    return max(down / across, across / down) - 1


@given(PHOTO, BUCKETS)
def test_no_other_bucket_stretches_less(photo: Size, buckets: list[Size]) -> None:
    fit = choose_bucket(photo, buckets)
    assert fit.bucket in buckets
    assert fit.stretch == pytest.approx(stretch(photo, fit.bucket), rel=1e-6, abs=1e-9)
    assert all(fit.stretch <= stretch(photo, other) * (1 + 1e-6) + 1e-6 for other in buckets)


@given(PHOTO, BUCKETS, st.randoms(use_true_random=False), st.integers(1, 9))
def test_order_and_scale_of_the_photograph_do_not_matter(photo, buckets, random, factor) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(buckets, len(buckets))
    assert choose_bucket(photo, shuffled) == choose_bucket(photo, buckets)
    larger = (photo[0] * factor, photo[1] * factor)
    assert choose_bucket(larger, buckets).bucket == choose_bucket(photo, buckets).bucket


@given(PHOTO, BUCKETS)
def test_a_turned_photograph_takes_the_turned_bucket(photo: Size, buckets: list[Size]) -> None:
    turned = choose_bucket(photo[::-1], [b[::-1] for b in buckets])  # type: ignore[misc]
    upright = choose_bucket(photo, buckets)
    assert turned.stretch == pytest.approx(upright.stretch, rel=1e-6, abs=1e-9)


def test_of_equally_near_buckets_the_larger_is_taken() -> None:
    assert choose_bucket((300, 300), [(252, 252), (518, 518), (392, 392)]).bucket == (518, 518)


@pytest.mark.parametrize(
    ("photo", "bucket"), [((480, 640), (392, 518)), ((500, 500), (518, 518)), ((1080, 1920), (252, 448))]
)
def test_the_usual_pictures_go_where_one_expects(photo: Size, bucket: Size) -> None:
    assert choose_bucket(photo, [(518, 518), (392, 518), (252, 448)]).bucket == bucket


def test_more_than_ten_per_cent_is_said() -> None:
    assert choose_bucket((480, 640), [(392, 518)]).warning is None
    assert choose_bucket((100, 110), [(98, 98)]).warning is None
    assert "stretched by 33 % to fit 518x518" in (choose_bucket((480, 640), [(518, 518)]).warning or "")


@pytest.mark.parametrize(("photo", "buckets"), [((4, 4), []), ((0, 4), [(14, 14)])])
def test_nothing_to_choose_is_an_error(photo: Size, buckets: list[Size]) -> None:
    with pytest.raises(ValueError, match="no place among"):
        choose_bucket(photo, buckets)


@given(PHOTO, st.integers(14 * 14, 700 * 700))
def test_the_size_of_its_own_is_legal_and_about_as_large(photo: Size, area: int) -> None:
    height, width = native_size(photo, area)
    assert height % 14 == width % 14 == 0 and min(height, width) >= 14
    wished = [side * math.sqrt(area / (photo[0] * photo[1])) for side in photo]
    assert abs(height - wished[0]) <= 14 and abs(width - wished[1]) <= 14


class Rows:
    """A net that sees the aspect: disparity is the row in pixels of its own input."""

    name = label = "rows"
    depth_kind = DepthKind.DISPARITY_AFFINE_INVARIANT

    def __init__(self, input_size: Size, *, turned: bool = False) -> None:
        self.input_size = input_size
        self._turned = turned

    def predict(self, image: np.ndarray) -> np.ndarray:
        y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
        return x if self._turned else y

    def close(self) -> None: ...


def test_the_cost_is_nothing_where_the_aspect_changes_nothing_and_all_where_it_changes_everything(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), np.zeros((56, 98, 3), np.uint8))
    same = measure_cost(Rows((56, 56)), Rows, (path,))
    assert same["bucket_vs_own_aspect_median"].value == pytest.approx(1.0)
    assert same["bucket_stretch_median"].value == pytest.approx(98 / 56 - 1)
    other = measure_cost(Rows((56, 56)), lambda size: Rows(size, turned=True), (path,))
    assert other["bucket_vs_own_aspect_worst"].value == pytest.approx(0.0, abs=1e-6)
