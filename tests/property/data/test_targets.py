"""From depth to the training target: one way, whatever the unit, the sky and the holes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from datk.data.sample import Sample, disparity_from_depth, min_max

DEPTHS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
    elements=st.one_of(
        st.floats(np.float32(1e-2), np.float32(1e4), width=32), st.sampled_from([np.inf, np.nan, 0.0, -1.0])
    ),
)


def sample(depth_m: NDArray[np.float32]) -> Sample:
    return Sample(name="x", image=np.zeros((*depth_m.shape, 3), np.uint8), depth_m=depth_m)


@given(depth_m=DEPTHS)
def test_a_pixel_is_valid_if_and_only_if_it_is_positive_and_sky_is_always_valid(depth_m: NDArray[np.float32]) -> None:
    made = sample(depth_m)
    np.testing.assert_array_equal(made.valid, depth_m > 0)
    assert not (made.sky & ~made.valid).any()
    disparity, valid = disparity_from_depth(depth_m)
    assert not disparity[~valid].any() and not disparity[made.sky].any()
    assert (disparity[valid & ~made.sky] > 0).all()


@given(depth_m=DEPTHS)
def test_the_target_spans_zero_to_one_and_keeps_the_order_of_depth(depth_m: NDArray[np.float32]) -> None:
    made = sample(depth_m)
    if not made.valid.any():
        return
    target, valid = made.target()
    assert target.dtype == np.float32 and not target[~valid].any()
    assert target.min() >= 0 and target.max() <= 1
    known, near = depth_m[valid].astype(np.float64), target[valid]
    if known.min() < known.max():
        assert near.max() == 1 and near.min() == 0
    order = np.argsort(known)
    assert (np.diff(near[order]) <= 1e-7).all(), "farther is never larger"
    if made.sky.any():
        assert not target[made.sky].any()


@given(depth_m=DEPTHS, scale=st.floats(0.01, 100))
def test_the_target_does_not_depend_on_the_unit(depth_m: NDArray[np.float32], scale: float) -> None:
    if not (depth_m > 0).any():
        return
    one, _ = sample(depth_m).target()
    other, _ = sample((depth_m * np.float32(scale)).astype(np.float32)).target()
    finite = depth_m[np.isfinite(depth_m) & (depth_m > 0)]
    if finite.size and (np.isinf(depth_m).any() or finite.max() > 1.01 * finite.min()):
        np.testing.assert_allclose(one, other, atol=1e-4)


@given(
    values=arrays.arrays(np.float32, (3, 4), elements=st.floats(-1e6, 1e6, width=32)),
    valid=arrays.arrays(np.bool_, (3, 4)),
)
def test_min_max_looks_at_valid_values_only(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    spoilt = np.where(valid, values, np.float32(9e9))
    np.testing.assert_array_equal(min_max(values, valid), min_max(spoilt, valid))
