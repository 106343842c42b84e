"""Scale-and-shift fits, for any disparity map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LinearRegression

from datk.depth.align import apply_scale_shift, fit_median_mad, fit_scale_shift

MAPS = arrays(np.float64, (6, 7), elements=st.floats(0, 100, width=32)).filter(lambda a: a.std() > 1e-2)
SCALES = st.floats(0.01, 100)
SHIFTS = st.floats(-50, 50)


@given(MAPS, SCALES, SHIFTS)
def test_fit_recovers_any_scale_and_shift(pred: NDArray[np.float64], scale: float, shift: float) -> None:
    for fit in (fit_scale_shift, fit_median_mad):
        s, t = fit(pred, scale * pred + shift)
        np.testing.assert_allclose([s, t], [scale, shift], rtol=1e-6, atol=1e-6 * (abs(shift) + scale * 100))


@given(MAPS, MAPS, SCALES, SHIFTS)
def test_aligned_map_does_not_depend_on_the_predictions_scale_and_shift(
    pred: NDArray[np.float64], target: NDArray[np.float64], scale: float, shift: float
) -> None:
    for fit in (fit_scale_shift, fit_median_mad):
        one = apply_scale_shift(pred, *fit(pred, target))
        moved = scale * pred + shift
        two = apply_scale_shift(moved, *fit(moved, target))
        np.testing.assert_allclose(one, two, atol=1e-4)


@given(MAPS, MAPS)
def test_residual_is_orthogonal_to_the_prediction_and_to_a_constant(
    pred: NDArray[np.float64], target: NDArray[np.float64]
) -> None:
    residual = target - apply_scale_shift(pred, *fit_scale_shift(pred, target))
    assert abs(residual.mean()) < 1e-6
    assert abs((residual * (pred - pred.mean())).mean()) < 1e-5


@given(st.integers(0, 2**32 - 1))
def test_fit_agrees_with_scipy_and_sklearn_over_the_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pred, target = rng.random((2, 9, 8))
    mask = rng.random((9, 8)) < 0.6
    mask[0, :3] = True
    scale, shift = fit_scale_shift(pred, target, mask)
    line = stats.linregress(pred[mask], target[mask])
    model = LinearRegression().fit(pred[mask][:, None], target[mask])
    np.testing.assert_allclose([scale, shift], [line.slope, line.intercept], atol=1e-9)
    np.testing.assert_allclose([scale, shift], [model.coef_[0], model.intercept_], atol=1e-9)


def test_a_batch_is_fitted_image_by_image() -> None:
    rng = np.random.default_rng(0)
    pred, target = rng.random((2, 3, 5, 4))
    mask = rng.random((3, 5, 4)) < 0.7
    for fit in (fit_scale_shift, fit_median_mad):
        scales, shifts = fit(pred, target, mask)
        assert scales.shape == shifts.shape == (3,)
        single = [fit(pred[i], target[i], mask[i]) for i in range(3)]
        np.testing.assert_allclose(np.stack([scales, shifts], 1), np.array(single))
    assert apply_scale_shift(pred, scales, shifts).shape == (3, 5, 4)


def test_masked_pixels_have_no_influence() -> None:
    pred = np.array([[1.0, 2.0, 3.0, 1e9]])
    target = np.array([[2.0, 4.0, 6.0, np.nan]])
    scale, shift = fit_scale_shift(pred, target, np.array([[True, True, True, False]]))
    assert (scale, shift) == (pytest.approx(2.0), pytest.approx(0.0))


@pytest.mark.parametrize("fit", [fit_scale_shift, fit_median_mad])
def test_undefined_fits_are_nan(fit) -> None:  # type: ignore[no-untyped-def]
    target = np.arange(4.0).reshape(2, 2)
    one_pixel = np.array([[True, False], [False, False]])
    assert np.isnan(fit(target, target, one_pixel)).all()
    assert np.isnan(fit(np.full((2, 2), 7.0), target)).all()
    assert np.isnan(fit(np.array([[1.0, np.nan], [2.0, 3.0]]), target)).all()


def test_different_shapes_are_our_bug_and_raise() -> None:
    with pytest.raises(ValueError, match="must share one"):
        fit_scale_shift(np.zeros((2, 2)), np.zeros((2, 3)))
