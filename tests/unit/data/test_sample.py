"""Samples: one quantity each, sky at disparity zero."""

from __future__ import annotations

import numpy as np
import pytest

from datk.data.sample import Sample, disparity_from_depth
from datk.errors import DataError

IMAGE = np.zeros((2, 3, 3), np.uint8)


def test_sky_is_valid_and_at_disparity_zero() -> None:
    disparity, valid = disparity_from_depth(np.array([[2.0, np.inf], [np.nan, 0.0], [-1.0, -np.inf]], np.float32))
    assert disparity.tolist() == [[0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert valid.tolist() == [[True, True], [False, False], [False, False]]


@pytest.mark.parametrize(("damaged", "dtype"), [(1e-40, "f4"), (1e-44, "f4"), (1e-300, "f8")])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_depth_without_a_finite_inverse_is_unknown_and_spoils_no_other_pixel(damaged: float, dtype: str) -> None:
    depth_m = np.array([[2.0, np.inf, damaged], [4.0, np.nan, -damaged]], dtype)
    target, valid = Sample(name="a", image=IMAGE, depth_m=depth_m).target()
    assert target.tolist() == [[1.0, 0.0, 0.0], [0.5, 0.0, 0.0]]
    assert valid.tolist() == [[True, True, False], [True, False, False]]


def test_nearer_has_larger_inverse_depth_from_either_ground_truth() -> None:
    from_depth = Sample(name="a", image=IMAGE, depth_m=np.array([[1, 2, 3], [1, 2, np.inf]], np.float32))
    disparity = np.array([[9, 5, 1], [np.nan, 0, 2]], np.float32)
    from_disparity = Sample(name="b", image=IMAGE, disparity_px=disparity)
    assert from_depth.inverse_depth()[0][0, 0] > from_depth.inverse_depth()[0][0, 2]
    values, valid = from_disparity.inverse_depth()
    assert values[0, 0] > values[0, 2]
    assert valid.tolist() == [[True, True, True], [False, False, True]]


def test_a_sample_with_both_or_no_ground_truth_is_refused() -> None:
    depth = np.ones((2, 3), np.float32)
    with pytest.raises(DataError, match="either depth_m or disparity_px, got 2"):
        Sample(name="a", image=IMAGE, depth_m=depth, disparity_px=depth)
    with pytest.raises(DataError, match="got 0"):
        Sample(name="a", image=IMAGE)


def test_a_sample_whose_depth_does_not_fit_its_image_is_refused() -> None:
    with pytest.raises(DataError, match=r"ground truth is \(3, 2\), the image is \(2, 3\)"):
        Sample(name="a", image=IMAGE, depth_m=np.ones((3, 2), np.float32))
    with pytest.raises(DataError, match="expected uint8"):
        Sample(name="a", image=IMAGE.astype(np.float32), depth_m=np.ones((2, 3), np.float32))  # type: ignore[arg-type]
