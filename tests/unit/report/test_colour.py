"""Depth maps as pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datk.depth.io_spec import DepthKind
from datk.errors import DataError
from datk.report.colour import NO_VALUE, colourise, colourise_error

DISPARITY, METRIC = DepthKind.DISPARITY_AFFINE_INVARIANT, DepthKind.DEPTH_METRIC_M


def is_red(pixel: np.ndarray) -> bool:
    return bool(pixel[0] > 120 and pixel[2] < pixel[0] - 60)


def is_blue(pixel: np.ndarray) -> bool:
    return bool(pixel[2] > 120 and pixel[0] < pixel[2] - 60)


def test_near_is_red_and_far_is_blue_for_both_kinds() -> None:
    ramp = np.linspace(1.0, 9.0, 20, dtype=np.float32).reshape(4, 5)
    disparity, metric = colourise(ramp, DISPARITY), colourise(ramp, METRIC)
    assert is_red(disparity[-1, -1]) and is_blue(disparity[0, 0])  # larger disparity is nearer
    assert is_red(metric[0, 0]) and is_blue(metric[-1, -1])  # larger depth is farther


def test_colours_equal_the_official_recipe() -> None:
    from matplotlib import colormaps

    depth = np.random.default_rng(0).uniform(0, 7, (9, 11)).astype(np.float64)
    level = ((depth - depth.min()) / (depth.max() - depth.min()) * 255.0).astype(np.uint8)
    official = (colormaps.get_cmap("Spectral_r")(level)[:, :, :3] * 255).astype(np.uint8)
    difference = np.abs(colourise(depth, DISPARITY).astype(int) - official.astype(int)).max(axis=2)
    assert (difference > 0).mean() < 0.02  # only where rounding moves a value over a level's edge
    assert difference.max() <= 12


def test_a_constant_map_is_one_defined_colour() -> None:
    picture = colourise(np.full((3, 4), 2.5, np.float32), DISPARITY)
    assert picture.shape == (3, 4, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) == 1
    assert not np.array_equal(picture[0, 0], NO_VALUE)


def test_sky_at_infinity_takes_the_far_end_and_does_not_flatten_the_rest() -> None:
    depth = np.array([[1.0, 2.0, np.inf], [1.5, 1.2, np.nan]], np.float32)
    picture = colourise(depth, METRIC)
    assert np.array_equal(picture[0, 2], picture[0, 1])  # the largest finite depth and the sky: both the far end
    assert not np.array_equal(picture[0, 0], picture[1, 0])
    assert tuple(picture[1, 2]) == NO_VALUE


def test_a_map_without_one_finite_value_is_grey() -> None:
    assert (colourise(np.full((2, 2), np.nan), DISPARITY) == NO_VALUE[0]).all()


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(width=32)),
    st.sampled_from(list(DepthKind)),
)
def test_any_floats_give_a_picture_of_the_same_size_without_a_warning(depth: np.ndarray, kind: DepthKind) -> None:
    with np.errstate(all="raise", under="ignore"):
        picture = colourise(depth, kind)
    assert picture.shape == (*depth.shape, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("shape", [(3,), (1, 3, 4), (0, 4)])
def test_anything_but_a_two_dimensional_map_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="shape"):
        colourise(np.zeros(shape), DISPARITY)


def test_error_maps_share_a_scale() -> None:
    small, large = np.full((2, 2), 0.01), np.full((2, 2), 0.5)
    assert colourise_error(small, full_scale=0.1).mean() < 60
    assert np.array_equal(colourise_error(large, full_scale=0.1), colourise_error(large * 9, full_scale=0.1))
    with pytest.raises(DataError, match="above 0"):
        colourise_error(small, full_scale=0.0)
