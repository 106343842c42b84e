"""The other forms of the losses: least squares, hierarchical contexts, SiLog, feature margins, tails of activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datk.losses.feature_alignment import feature_alignment_loss
from datk.losses.hierarchical import Contexts, hierarchical_loss, hierarchical_map
from datk.losses.least_squares import align_least_squares, least_squares_loss
from datk.losses.outliers import outlier_penalty, tails
from datk.losses.scale_shift_invariant import scale_shift_invariant_loss
from datk.losses.silog import silog_loss

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
QUICK = settings(max_examples=25, deadline=None)
FEW = settings(max_examples=4, deadline=None)
seeds = st.integers(0, 10_000)
sizes = st.tuples(st.integers(1, 3), st.integers(2, 11), st.integers(2, 11))
levels = st.sampled_from([(1,), (1, 2, 4), (3,)])
ways = st.sampled_from(["range", "rank", "space"])


def _case(seed: int, shape: tuple[int, int, int]) -> tuple[Array, Array, Mask]:
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.uniform(0.3, 1.0)
    mask[:, :2, :2] = True
    if seed % 3 == 0:
        mask[0] = False  # an image without valid pixels
    return rng.normal(size=shape), rng.normal(size=shape), mask


def _t(array: NDArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


def _mean_of_images(terms: list[float]) -> float:
    return float(np.mean(terms)) if terms else 0.0


# least squares


@QUICK
@given(seeds, sizes)
def test_alignment_equals_numpys_least_squares(seed: int, shape: tuple[int, int, int]) -> None:
    pred, target, mask = _case(seed, shape)
    got = align_least_squares(_t(pred), _t(target), _t(mask)).numpy()
    terms = []
    for p, t, m, aligned in zip(pred, target, mask, got, strict=True):
        assert np.all(aligned[~m] == 0)
        if m.any():
            design = np.stack([p[m], np.ones(m.sum())], axis=1)
            solution = np.linalg.lstsq(design, t[m], rcond=None)[0]
            np.testing.assert_allclose(aligned[m], design @ solution, rtol=1e-6, atol=1e-8)
            terms.append(np.mean((design @ solution - t[m]) ** 2) / 2)
    loss = least_squares_loss(_t(pred), _t(target), _t(mask))
    assert float(loss) == pytest.approx(_mean_of_images(terms), rel=1e-6, abs=1e-12)


@QUICK
@given(seeds, sizes, st.floats(1e-2, 1e2), st.floats(-1e2, 1e2), st.sampled_from([-1.0, 1.0]))
def test_least_squares_ignores_scale_shift_and_sign(
    seed: int, shape: tuple[int, int, int], scale: float, shift: float, sign: float
) -> None:
    pred, target, mask = _case(seed, shape)
    plain = least_squares_loss(_t(pred), _t(target), _t(mask))
    moved = least_squares_loss(_t(sign * scale * pred + shift), _t(target), _t(mask))
    assert float(moved) == pytest.approx(float(plain), rel=1e-5, abs=1e-9)


def test_a_constant_prediction_is_aligned_to_the_targets_mean() -> None:
    target, mask = torch.rand(1, 5, 5, dtype=torch.float64), torch.ones(1, 5, 5, dtype=torch.bool)
    aligned = align_least_squares(torch.full((1, 5, 5), 7.0, dtype=torch.float64), target, mask)
    torch.testing.assert_close(aligned, target.mean().expand(1, 5, 5))


# hierarchical contexts


def _normalised(values: Array) -> Array:
    median = np.sort(values)[(values.size - 1) // 2]
    return (values - median) / max(float(np.abs(values - median).mean()), 1e-6)


def _contexts_numpy(target: Array, valid: Mask, count: int, way: str) -> list[Mask]:
    if way == "space":
        h, w = target.shape
        y, x = np.mgrid[:h, :w]
        return [valid & (y * count // h == i) & (x * count // w == j) for i in range(count) for j in range(count)]
    if way == "rank":
        chosen = np.flatnonzero(valid)
        order = chosen[np.argsort(target.ravel()[chosen], kind="stable")]
        groups = [order[(np.arange(order.size) * count // order.size) == k] for k in range(count)]
        return [np.isin(np.arange(valid.size), group).reshape(valid.shape) for group in groups]
    edges = np.linspace(target[valid].min(), target[valid].max(), count + 1)
    last = count - 1
    return [valid & (target >= edges[k]) & ((target < edges[k + 1]) | (k == last)) for k in range(count)]


def _hierarchical_numpy(pred: Array, target: Array, mask: Mask, parts: tuple[int, ...], way: str) -> float:
    images = []
    for p, t, m in zip(pred, target, mask, strict=True):
        if not m.any():
            continue
        per_pixel: list[list[float]] = [[] for _ in range(m.size)]
        for count in parts:
            for context in _contexts_numpy(t, m, count, way):
                if context.sum() > 1:
                    difference = np.abs(_normalised(p[context]) - _normalised(t[context]))
                    for place, value in zip(np.flatnonzero(context), difference, strict=True):
                        per_pixel[place].append(float(value))
        means = [np.mean(per_pixel[i]) if per_pixel[i] else 0.0 for i in np.flatnonzero(m)]
        images.append(float(np.mean(means)))
    return _mean_of_images(images)


@QUICK
@given(seeds, sizes, levels, ways)
def test_hierarchical_equals_an_independent_numpy_formulation(
    seed: int, shape: tuple[int, int, int], parts: tuple[int, ...], way: Contexts
) -> None:
    pred, target, mask = _case(seed, shape)
    got = hierarchical_loss(_t(pred), _t(target), _t(mask), parts=parts, contexts=way)
    assert float(got) == pytest.approx(_hierarchical_numpy(pred, target, mask, parts, way), rel=1e-6, abs=1e-9)


@QUICK
@given(seeds, sizes, levels, ways, st.floats(1e-2, 1e2), st.floats(-1e2, 1e2))
def test_hierarchical_ignores_scale_and_shift(
    seed: int, shape: tuple[int, int, int], parts: tuple[int, ...], way: Contexts, scale: float, shift: float
) -> None:
    pred, target, mask = _case(seed, shape)
    options = {"parts": parts, "contexts": way, "scale_floor": 1e-9}
    plain = hierarchical_loss(_t(pred), _t(target), _t(mask), **options)  # type: ignore[arg-type]
    moved = hierarchical_loss(_t(pred * scale + shift), _t(target), _t(mask), **options)  # type: ignore[arg-type]
    assert float(moved) == pytest.approx(float(plain), rel=1e-5, abs=1e-9)


@QUICK
@given(seeds, sizes)
def test_one_context_is_the_plain_loss(seed: int, shape: tuple[int, int, int]) -> None:
    pred, target, mask = _case(seed, shape)
    got = hierarchical_loss(_t(pred), _t(target), _t(mask), parts=(1,))
    assert float(got) == pytest.approx(float(scale_shift_invariant_loss(_t(pred), _t(target), _t(mask))), abs=1e-9)


def test_a_flat_context_says_nothing_about_shape() -> None:
    target = torch.cat([torch.zeros(1, 4, 8), torch.rand(1, 4, 8) + 1], dim=1)  # sky above, ground below
    pred, mask = torch.randn(1, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    values = hierarchical_map(pred, target, mask, parts=(2,))
    assert bool((values[:, :4] == 0).all()) and bool((values[:, 4:] > 0).any())


# SiLog


def _silog_numpy(pred: Array, target: Array, mask: Mask, weight: float, over: str) -> float:
    groups = [(p[m], t[m]) for p, t, m in zip(pred, target, mask, strict=True)]
    if over == "batch":
        groups = [(pred[mask], target[mask])]
    logs = [np.log(t / p) for p, t in groups if p.size]
    return _mean_of_images([float(np.sqrt(max(np.mean(g**2) - weight * g.mean() ** 2, 1e-12))) for g in logs])


@QUICK
@given(seeds, sizes, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(["image", "batch"]))
def test_silog_equals_an_independent_numpy_formulation(
    seed: int, shape: tuple[int, int, int], weight: float, over: str
) -> None:
    pred, target, mask = _case(seed, shape)
    pred, target = np.exp(pred), np.exp(target)
    expected = _silog_numpy(pred, target, mask, weight, over)
    poison = np.where(mask, target, 0.0)  # a missing depth is stored as 0
    got = silog_loss(_t(pred), _t(poison), _t(mask), mean_weight=weight, over=over)  # type: ignore[arg-type]
    assert float(got) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@QUICK
@given(seeds, sizes, st.floats(0.1, 10))
def test_silog_with_full_mean_weight_ignores_a_common_factor(
    seed: int, shape: tuple[int, int, int], factor: float
) -> None:
    pred, target, mask = _case(seed, shape)
    p, t, m = _t(np.exp(pred)), _t(np.exp(target)), _t(mask)
    plain = silog_loss(p, t, m, mean_weight=1.0)
    assert float(silog_loss(p * factor, t, m, mean_weight=1.0)) == pytest.approx(float(plain), abs=1e-6)
    assert float(silog_loss(t * 2, t, m)) == pytest.approx(np.log(2) / np.sqrt(2) if m.any() else 0.0, abs=1e-9)


# features


@QUICK
@given(seeds)
def test_a_margin_of_085_on_the_cosine_is_one_of_015_on_the_distance(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(2, 9, 6, generator=generator)
    student = reference + torch.randn(2, 9, 6, generator=generator) * torch.linspace(0, 2, 9)[:, None]
    on_cosine = feature_alignment_loss(student, reference, margin=0.85)
    on_distance = feature_alignment_loss(student, reference, margin=0.15, margin_on="distance")
    assert float(on_cosine) == pytest.approx(float(on_distance), rel=1e-6) and float(on_cosine) > 0


@QUICK
@given(seeds, st.sampled_from(["kept", "all"]))
def test_feature_alignment_equals_an_independent_numpy_formulation(seed: int, mean_over: str) -> None:
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(3, 8, 5))
    student = reference + rng.normal(size=reference.shape) * rng.uniform(0, 1.5, (3, 8, 1))
    terms = []
    for s, r in zip(student, reference, strict=True):
        cosine = (s * r).sum(1) / np.linalg.norm(s, axis=1) / np.linalg.norm(r, axis=1)
        far = 1 - cosine[cosine <= 0.85]
        terms.append(far.sum() / (len(cosine) if mean_over == "all" else max(far.size, 1)))
    got = feature_alignment_loss(_t(student), _t(reference), mean_over=mean_over)  # type: ignore[arg-type]
    assert float(got) == pytest.approx(float(np.mean(terms)), rel=1e-9)


# tails of activations


@QUICK
@given(seeds, st.floats(1e-3, 1e3), st.sampled_from(["kurtosis", "range"]))
def test_tails_equal_scipys_and_the_penalty_ignores_scale(seed: int, factor: float, form: str) -> None:
    from scipy import stats

    values = np.random.default_rng(seed).standard_t(3, size=(2, 6, 7))
    found = tails(_t(values))
    flat = values.reshape(2, -1)
    np.testing.assert_allclose(found.kurtosis.numpy(), stats.kurtosis(flat, axis=1, fisher=False), rtol=1e-9)
    np.testing.assert_allclose(found.largest.numpy(), np.abs(flat).max(1))
    np.testing.assert_allclose(found.crest.numpy(), np.abs(flat).max(1) / np.sqrt((flat**2).mean(1)), rtol=1e-9)
    plain = outlier_penalty([_t(values)], form=form, limit=2.0)  # type: ignore[arg-type]
    assert float(outlier_penalty([_t(values * factor)], form=form, limit=2.0)) == pytest.approx(  # type: ignore[arg-type]
        float(plain), rel=1e-6
    )


def test_a_spike_costs_and_following_the_gradient_lowers_it() -> None:
    flat = torch.linspace(-1, 1, 64).view(1, 64).requires_grad_(True)
    assert float(outlier_penalty([flat]).detach()) == 0.0, "a uniform distribution has a kurtosis of 1.8"
    spiky = flat.detach().clone()
    spiky[0, 5] = 30.0
    spiky.requires_grad_(True)
    loss = outlier_penalty([spiky])
    loss.backward()
    assert float(loss.detach()) > 1
    assert spiky.grad is not None and float(spiky.grad[0, 5]) > 0, "down with the spike"
    assert float(outlier_penalty([spiky.detach() - 10 * spiky.grad])) < float(loss.detach())


# all of them


def _dense(name: str, pred: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if name == "least_squares":
        return least_squares_loss(pred, target, mask)
    if name == "silog":
        return silog_loss(pred.exp(), torch.where(mask, target, 0.0).exp(), mask)
    return hierarchical_loss(pred, target, mask, parts=(1, 2), contexts=name)  # type: ignore[arg-type]


NAMES = ["least_squares", "silog", "range", "rank", "space"]


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(seeds)
def test_gradients_equal_finite_differences(name: str, seed: int) -> None:
    pred, target, mask = _case(seed, (2, 5, 4))
    function = lambda x: _dense(name, x, _t(target), _t(mask))  # noqa: E731
    assert torch.autograd.gradcheck(function, _t(pred).requires_grad_(True), eps=1e-7, atol=1e-4)


@FEW
@given(seeds, st.sampled_from(["kurtosis", "range"]))
def test_gradients_of_the_penalty_equal_finite_differences(seed: int, form: str) -> None:
    values = _t(np.random.default_rng(seed).standard_t(3, size=(2, 9))).requires_grad_(True)
    function = lambda x: outlier_penalty([x], form=form, limit=1.1)  # type: ignore[arg-type] # noqa: E731
    assert torch.autograd.gradcheck(function, values, eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@FEW
@given(seeds, sizes, st.sampled_from([1e6, float("nan"), float("inf")]))
def test_masked_pixels_change_neither_value_nor_gradient(
    name: str, seed: int, shape: tuple[int, int, int], poison: float
) -> None:
    pred, target, mask = _case(seed, shape)

    def value_and_grad(p: Array, t: Array) -> tuple[float, Array]:
        x = _t(p).requires_grad_(True)
        loss = _dense(name, x, _t(t), _t(mask))
        loss.backward()
        assert x.grad is not None
        return float(loss.detach()), x.grad.numpy()

    clean, clean_grad = value_and_grad(pred, target)
    dirty_pred = pred if name == "silog" and poison != 1e6 else np.where(mask, pred, min(poison, 50.0))
    dirty, dirty_grad = value_and_grad(dirty_pred, np.where(mask, target, poison))
    assert dirty == pytest.approx(clean, rel=1e-12)
    np.testing.assert_allclose(dirty_grad, clean_grad, rtol=1e-12, atol=0)
    assert np.all(dirty_grad[~mask] == 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("valid_pixels", [0, 1])
def test_empty_and_one_pixel_masks_stay_finite(name: str, valid_pixels: int) -> None:
    pred = torch.randn(2, 5, 5, requires_grad=True)
    target, mask = torch.randn(2, 5, 5), torch.zeros(2, 5, 5, dtype=torch.bool)
    mask.view(2, -1)[:, :valid_pixels] = True
    loss = _dense(name, pred, target, mask)
    loss.backward()
    assert pred.grad is not None and bool(torch.isfinite(pred.grad).all())
    if name == "silog" and valid_pixels:
        expected = (target - pred.detach())[:, 0, 0].abs().mean() / np.sqrt(2)
        assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    else:
        assert float(loss.detach()) == 0.0, "one pixel can be aligned with anything"


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_image_does_not_dilute_the_mean(name: str) -> None:
    pred, target = torch.randn(2, 6, 6), torch.randn(2, 6, 6)
    mask = torch.ones(2, 6, 6, dtype=torch.bool)
    alone = _dense(name, pred[:1], target[:1], mask[:1])
    mask[1] = False
    assert float(_dense(name, pred, target, mask)) == pytest.approx(float(alone), rel=1e-6)
