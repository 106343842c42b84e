"""Losses: invariances, masks, empty images, gradients; parity with formulations written here in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datk.losses.feature_alignment import feature_alignment_loss
from datk.losses.gradient_matching import gradient_matching_loss
from datk.losses.scale_shift_invariant import normalise_scale_shift, scale_shift_invariant_loss
from datk.losses.top_loss import drop_top_loss

Array = NDArray[np.float64]
QUICK = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)
sizes = st.tuples(st.integers(1, 3), st.integers(2, 13), st.integers(2, 13))


def _case(seed: int, shape: tuple[int, int, int]) -> tuple[Array, Array, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.uniform(0.3, 1.0)
    mask[:, :2, :2] = True
    return rng.normal(size=shape), rng.normal(size=shape), mask


def _t(array: NDArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _normalise_numpy(values: Array, valid: NDArray[np.bool_], floor: float) -> Array:
    chosen = np.sort(values[valid])
    if chosen.size == 0:
        return np.zeros_like(values)
    median = chosen[(chosen.size - 1) // 2]
    deviation = max(np.mean(np.abs(chosen - median)), floor)
    return np.where(valid, (values - median) / deviation, 0.0)


def _ssi_numpy(pred: Array, target: Array, mask: NDArray[np.bool_], floor: float = 1e-6) -> float:
    terms = []
    for p, t, m in zip(pred, target, mask, strict=True):
        if m.any():
            terms.append(np.abs(_normalise_numpy(p, m, floor) - _normalise_numpy(t, m, floor))[m].mean())
    return float(np.mean(terms)) if terms else 0.0


def _gm_numpy(pred: Array, target: Array, mask: NDArray[np.bool_], scales: int) -> float:
    terms = []
    for p, t, m in zip(pred, target, mask, strict=True):
        if not m.any():
            continue
        total = 0.0
        for k in range(scales):
            d, v = (p - t)[:: 2**k, :: 2**k], m[:: 2**k, :: 2**k]
            part = 0.0
            for y in range(d.shape[0]):
                for x in range(d.shape[1]):
                    if x + 1 < d.shape[1] and v[y, x] and v[y, x + 1]:
                        part += abs(d[y, x + 1] - d[y, x])
                    if y + 1 < d.shape[0] and v[y, x] and v[y + 1, x]:
                        part += abs(d[y + 1, x] - d[y, x])
            total += part / max(v.sum(), 1)
        terms.append(total)
    return float(np.mean(terms)) if terms else 0.0


@QUICK
@given(seeds, sizes)
def test_ssi_equals_an_independent_numpy_formulation(seed: int, shape: tuple[int, int, int]) -> None:
    pred, target, mask = _case(seed, shape)
    mask[0] = mask[0] & (seed % 3 != 0)  # every third case: an image without valid pixels
    got = scale_shift_invariant_loss(_t(pred), _t(target), _t(mask))
    assert float(got) == pytest.approx(_ssi_numpy(pred, target, mask), rel=1e-9, abs=1e-12)


@QUICK
@given(seeds, sizes, st.integers(1, 4))
def test_gradient_matching_equals_an_independent_numpy_formulation(
    seed: int, shape: tuple[int, int, int], scales: int
) -> None:
    pred, target, mask = _case(seed, shape)
    mask[0] = mask[0] & (seed % 3 != 0)
    got = gradient_matching_loss(_t(pred), _t(target), _t(mask), scales=scales)
    assert float(got) == pytest.approx(_gm_numpy(pred, target, mask, scales), rel=1e-9, abs=1e-12)


@QUICK
@given(seeds, sizes, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_ssi_ignores_scale_and_shift_of_each_map(
    seed: int, shape: tuple[int, int, int], scale: float, shift: float
) -> None:
    pred, target, mask = _case(seed, shape)
    plain = scale_shift_invariant_loss(_t(pred), _t(target), _t(mask), scale_floor=1e-9)
    moved = scale_shift_invariant_loss(_t(pred * scale + shift), _t(target), _t(mask), scale_floor=1e-9)
    assert float(moved) == pytest.approx(float(plain), rel=1e-6)


@QUICK
@given(seeds, sizes)
def test_losses_are_zero_at_equality_up_to_scale_and_shift(seed: int, shape: tuple[int, int, int]) -> None:
    _, target, mask = _case(seed, shape)
    pred, valid = _t(3.0 * target + 7.0), _t(mask)
    normalised = normalise_scale_shift(pred, valid), normalise_scale_shift(_t(target), valid)
    assert float(scale_shift_invariant_loss(pred, _t(target), valid)) < 1e-9
    assert float(gradient_matching_loss(*normalised, valid)) < 1e-9


@QUICK
@given(seeds, sizes, st.sampled_from([1e6, float("nan"), float("inf")]))
def test_masked_pixels_change_neither_value_nor_gradient(seed: int, shape: tuple[int, int, int], poison: float) -> None:
    pred, target, mask = _case(seed, shape)

    def value_and_grad(p: Array, t: Array) -> tuple[float, Array]:
        x = _t(p).requires_grad_(True)
        a, b = normalise_scale_shift(x, _t(mask)), normalise_scale_shift(_t(t), _t(mask))
        loss = scale_shift_invariant_loss(x, _t(t), _t(mask)) + gradient_matching_loss(a, b, _t(mask))
        loss.backward()
        assert x.grad is not None
        return float(loss.detach()), x.grad.numpy()

    clean, clean_grad = value_and_grad(pred, target)
    dirty, dirty_grad = value_and_grad(np.where(mask, pred, poison), np.where(mask, target, poison))
    assert dirty == pytest.approx(clean, rel=1e-12)
    np.testing.assert_allclose(dirty_grad, clean_grad, rtol=1e-12, atol=0)
    assert np.all(dirty_grad[~mask] == 0)


@pytest.mark.parametrize("valid_pixels", [0, 1])
def test_empty_and_one_pixel_masks_give_zero_and_finite_gradients(valid_pixels: int) -> None:
    pred = torch.randn(2, 5, 5, requires_grad=True)
    target, mask = torch.randn(2, 5, 5), torch.zeros(2, 5, 5, dtype=torch.bool)
    mask.view(2, -1)[:, :valid_pixels] = True
    a, b = normalise_scale_shift(pred, mask), normalise_scale_shift(target, mask)
    loss = scale_shift_invariant_loss(pred, target, mask) + gradient_matching_loss(a, b, mask)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert pred.grad is not None and torch.isfinite(pred.grad).all()


def test_an_empty_image_does_not_dilute_the_mean() -> None:
    pred, target = torch.randn(2, 6, 6), torch.randn(2, 6, 6)
    mask = torch.ones(2, 6, 6, dtype=torch.bool)
    alone = scale_shift_invariant_loss(pred[:1], target[:1], mask[:1])
    mask[1] = False
    assert float(scale_shift_invariant_loss(pred, target, mask)) == pytest.approx(float(alone), rel=1e-6)


def test_a_constant_prediction_meets_the_scale_floor_and_stays_finite() -> None:
    pred = torch.full((1, 6, 6), 3.0, requires_grad=True)
    target, mask = torch.rand(1, 6, 6), torch.ones(1, 6, 6, dtype=torch.bool)
    loss = scale_shift_invariant_loss(pred, target, mask, scale_floor=1e-2)
    loss.backward()
    assert pred.grad is not None and torch.isfinite(pred.grad).all() and torch.isfinite(loss)


@settings(max_examples=8, deadline=None)
@given(seeds)
def test_gradients_equal_finite_differences(seed: int) -> None:
    pred, target, mask = _case(seed, (2, 5, 4))
    tokens, reference = _case(seed, (2, 5, 4))[:2]
    t, m = _t(target), _t(mask)

    def ssi(x: torch.Tensor) -> torch.Tensor:
        return scale_shift_invariant_loss(x, t, m)

    def gm(x: torch.Tensor) -> torch.Tensor:
        return gradient_matching_loss(normalise_scale_shift(x, m), normalise_scale_shift(t, m), m)

    for function in (ssi, gm):
        assert torch.autograd.gradcheck(function, _t(pred).requires_grad_(True), eps=1e-7, atol=1e-4)
    align = lambda x: feature_alignment_loss(x, _t(reference), margin=1.0)  # noqa: E731
    assert torch.autograd.gradcheck(align, _t(tokens).requires_grad_(True))


@QUICK
@given(seeds, sizes, st.floats(0.0, 0.9))
def test_top_loss_keeps_the_smallest_of_each_image(seed: int, shape: tuple[int, int, int], fraction: float) -> None:
    loss_map, _, mask = _case(seed, shape)
    loss_map = np.round(np.abs(loss_map), 1)  # ties
    kept = drop_top_loss(_t(loss_map), _t(mask), fraction=fraction).numpy()
    for values, valid, stays in zip(loss_map, mask, kept, strict=True):
        assert not np.any(stays & ~valid)
        expected = int(np.ceil(np.round((1 - fraction) * valid.sum(), 6))) if fraction > 0 else valid.sum()
        assert stays.sum() == expected
        dropped = valid & ~stays
        if dropped.any():
            assert values[stays].max() <= values[dropped].min()


def test_feature_alignment_leaves_out_tokens_above_the_margin() -> None:
    reference = torch.eye(4)[None]  # (1, 4, 4)
    close, far = reference.clone(), torch.roll(reference, 1, dims=1)
    assert float(feature_alignment_loss(close, reference)) == 0.0
    assert float(feature_alignment_loss(far, reference)) == pytest.approx(1.0)
    half = torch.cat([close[:, :2], far[:, 2:]], dim=1)
    assert float(feature_alignment_loss(half, reference)) == pytest.approx(1.0), "aligned tokens must not dilute"


@QUICK
@given(seeds, st.floats(0.01, 100.0))
def test_feature_alignment_ignores_token_length_and_reaches_no_reference(seed: int, factor: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(2, 7, 5, generator=generator, requires_grad=True)
    reference = torch.randn(2, 7, 5, generator=generator, requires_grad=True)
    plain = feature_alignment_loss(student, reference)
    assert float(feature_alignment_loss(student * factor, reference).detach()) == pytest.approx(
        float(plain.detach()), rel=1e-4
    )
    plain.backward()
    assert reference.grad is None and student.grad is not None
