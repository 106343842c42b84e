"""Dense metrics: invariances, signs, and agreement with independent formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from datk.depth.io_spec import DepthKind
from datk.errors import UsageError
from datk.evaluate.metrics import (
    correlation,
    delta,
    log10_error,
    ordinal_agreement,
    rmse,
    score_depth,
    score_reference,
    silog,
)

DISPARITY, METRIC = DepthKind.DISPARITY_AFFINE_INVARIANT, DepthKind.DEPTH_METRIC_M
SEEDS = st.integers(0, 2**32 - 1)


def scene(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Depth in metres, and a noisy disparity of it."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 20, (12, 10))
    return depth, 1 / depth + rng.normal(0, 0.02, depth.shape)


@given(SEEDS)
def test_perfect_disparity_scores_zero_error_whatever_its_scale_and_shift(seed: int) -> None:
    depth, _ = scene(seed)
    score = score_depth(7 / depth + 3, depth, kind=DISPARITY)
    assert score.abs_rel < 1e-9 and score.delta1 == 1.0 and score.rmse < 1e-6
    assert score.correlation == pytest.approx(1.0)


@given(SEEDS, st.floats(0.01, 100), st.floats(-10, 10))
def test_disparity_scores_are_invariant_to_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    depth, disparity = scene(seed)
    one = score_depth(disparity, depth, kind=DISPARITY)
    two = score_depth(scale * disparity + shift, depth, kind=DISPARITY)
    assert two.abs_rel == pytest.approx(one.abs_rel, rel=1e-6)
    assert two.delta1 == pytest.approx(one.delta1, abs=0.01)


@given(SEEDS)
def test_a_flipped_sign_is_never_forgiven(seed: int) -> None:
    """Plain least squares would flip the map back with a negative scale and hide the error."""
    depth, disparity = scene(seed)
    right = score_depth(disparity, depth, kind=DISPARITY)
    flipped = score_depth(-disparity, depth, kind=DISPARITY)
    assert flipped.correlation == pytest.approx(-right.correlation)
    assert flipped.scale == 0.0
    assert flipped.abs_rel > right.abs_rel
    as_depth = score_depth(depth, depth, kind=DISPARITY, align="median_mad")
    assert as_depth.scale == 0.0 and as_depth.correlation < 0


@given(SEEDS, st.floats(1.3, 3))
def test_metric_depth_is_judged_without_alignment(seed: int, factor: float) -> None:
    depth, _ = scene(seed)
    score = score_depth(depth * factor, depth, kind=METRIC, cap_m=1000)
    assert score.abs_rel == pytest.approx(factor - 1)
    assert score.delta1 == 0.0


def test_formulas_agree_with_sklearn_and_numpy() -> None:
    rng = np.random.default_rng(1)
    target, pred = rng.uniform(1, 30, (2, 500))
    score = score_depth(pred[None], target[None], kind=METRIC, cap_m=1000)
    assert score.abs_rel == pytest.approx(sk.mean_absolute_percentage_error(target, pred))
    assert score.rmse == pytest.approx(sk.root_mean_squared_error(target, pred))
    assert rmse(pred, target) == pytest.approx(sk.root_mean_squared_error(target, pred))
    assert log10_error(pred, target) == pytest.approx(sk.mean_absolute_error(np.log10(target), np.log10(pred)))
    error = np.log(pred / target)
    assert silog(pred, target) == pytest.approx(math.sqrt(error.var() + 0.5 * error.mean() ** 2))
    within = [max(p / t, t / p) < 1.25 for p, t in zip(pred, target, strict=True)]
    assert delta(pred, target) == pytest.approx(sum(within) / len(within))
    assert score.delta1 <= score.delta2 <= score.delta3
    assert score.correlation == pytest.approx(stats.pearsonr(pred, target).statistic)


@given(SEEDS)
def test_correlation_agrees_with_scipy_and_keeps_its_sign(seed: int) -> None:
    a, b = np.random.default_rng(seed).random((2, 40))
    expected = stats.pearsonr(a, b).statistic
    assert correlation(a, b) == pytest.approx(expected, abs=1e-12)
    assert correlation(a, -b) == pytest.approx(-expected, abs=1e-12)


def test_correlation_of_a_constant_or_broken_map_is_undefined() -> None:
    b = np.arange(5.0)
    assert math.isnan(correlation(np.full(5, 3.0), b))
    assert math.isnan(correlation(np.full(5, 0.1, np.float32), b))
    assert math.isnan(correlation(np.array([1, 2, np.nan, 4, 5]), b))
    assert math.isnan(correlation(np.array([1, 2, np.inf, 4, 5]), b))


def test_sky_and_unknown_depth_are_left_out_and_counted() -> None:
    depth = np.linspace(1, 5, 20).reshape(4, 5)
    holed = depth.copy()
    holed[0, :4] = [np.inf, np.nan, 0, -1]
    score = score_depth(1 / depth, holed, kind=DISPARITY)
    assert score.n_pixels == 16 and score.abs_rel < 1e-9


def test_too_few_pixels_or_a_constant_map_are_undefined_with_a_reason() -> None:
    depth = np.linspace(1, 5, 20).reshape(4, 5)
    few = score_depth(1 / depth, depth, depth < 1.5, kind=DISPARITY)
    assert math.isnan(few.abs_rel) and few.undefined == "fewer than 10 valid pixels"
    constant = score_depth(np.ones_like(depth), depth, kind=DISPARITY)
    assert math.isnan(constant.delta1) and constant.undefined == "the output is constant"
    broken = score_depth(np.full_like(depth, np.nan), depth, kind=METRIC)
    assert broken.undefined == "the prediction holds nan or infinity"


def test_metric_depth_must_not_be_aligned() -> None:
    depth = np.linspace(1, 5, 20).reshape(4, 5)
    with pytest.raises(UsageError, match="must not be aligned"):
        score_depth(depth, depth, kind=METRIC, align="least_squares")


def test_an_unknown_kind_is_refused() -> None:
    depth = np.linspace(1, 5, 20).reshape(4, 5)
    for score in (lambda k: score_depth(depth, depth, kind=k), lambda k: score_reference(depth, depth, kind=k)):
        with pytest.raises(UsageError, match="cannot judge 'surface_normals'"):
            score("surface_normals")


@given(SEEDS, st.floats(0.01, 100), st.floats(-10, 10))
def test_reference_scores_do_not_depend_on_either_maps_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    _, reference = scene(seed)
    candidate = reference + np.random.default_rng(seed).normal(0, 0.01, reference.shape)
    one = score_reference(candidate, reference, kind=DISPARITY)
    two = score_reference(scale * candidate + shift, scale * reference - shift, kind=DISPARITY)
    assert two.abs_rel == pytest.approx(one.abs_rel, rel=1e-6)
    assert score_reference(reference * scale + shift, reference, kind=DISPARITY).abs_rel < 1e-6


def test_reference_scores_name_which_side_is_broken() -> None:
    good = np.linspace(0, 1, 20)
    assert score_reference(np.zeros(20), good, kind=DISPARITY).undefined == "the output is constant"
    assert score_reference(good, np.zeros(20), kind=DISPARITY).undefined == "the reference is constant"
    assert score_reference(good * np.nan, good, kind=DISPARITY).undefined == "the output holds nan or infinity"
    assert score_reference(good, good * np.nan, kind=DISPARITY).undefined == "the reference holds nan or infinity"
    assert score_reference(good, good + 1, kind=METRIC).abs_rel > 0.4


@given(SEEDS, st.floats(0.01, 100), st.floats(-10, 10))
def test_ordinal_agreement_depends_only_on_the_order(seed: int, scale: float, shift: float) -> None:
    _, reference = scene(seed)
    assert ordinal_agreement(scale * reference + shift, reference) == 1.0
    assert ordinal_agreement(np.exp(reference), reference) == 1.0
    assert ordinal_agreement(-reference, reference) == 0.0


@given(SEEDS)
def test_ordinal_agreement_is_kendalls_tau_in_other_words(seed: int) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, 300))
    a += b
    share = ordinal_agreement(a, b, pairs=40_000, min_gap=0.0)
    assert 2 * share - 1 == pytest.approx(stats.kendalltau(a, b).statistic, abs=0.03)


def test_a_constant_candidate_agrees_on_nothing_and_a_constant_reference_is_undefined() -> None:
    reference = np.arange(50.0)
    assert ordinal_agreement(np.zeros(50), reference) == 0.0
    assert ordinal_agreement(np.full(50, np.nan), reference) == 0.0
    assert math.isnan(ordinal_agreement(reference, np.zeros(50)))


def test_aligned_disparity_is_clamped_at_the_farthest_depth_so_no_depth_is_negative_or_endless() -> None:
    """Two pixels are predicted far behind everything: the fit sends them below 1/cap, even below zero."""
    depth = np.concatenate([np.full(28, 1.0), np.full(30, 2.0)])
    disparity = 1 / depth
    disparity[[3, 40]] = -2.0
    score = score_depth(disparity[None], depth[None], kind=DISPARITY, cap_m=2.0)
    scale, shift = score.scale, score.shift
    assert scale * -2.0 + shift < 0.5
    aligned = np.minimum(1 / np.maximum(scale * disparity + shift, 0.5), 2.0)
    assert score.abs_rel == pytest.approx(np.mean(np.abs(aligned - depth) / depth))
