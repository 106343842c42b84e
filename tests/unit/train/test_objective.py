"""The sum of the losses: each weight does what its name says."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from datk.config.loss_section import LossSection
from datk.losses.hierarchical import hierarchical_loss
from datk.losses.least_squares import least_squares_loss
from datk.losses.scale_shift_invariant import scale_shift_invariant_loss
from datk.train.loop import StepLoss
from datk.train.objective import depth_loss


def _maps(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(2, 9, 11, generator=generator) > 0.2
    return torch.randn(2, 9, 11, generator=generator), torch.rand(2, 9, 11, generator=generator), valid


def _loss(section: LossSection, done: float = 1.0, shift: float = 0.0) -> StepLoss:
    raw, target, valid = _maps()
    return depth_loss(raw + shift, torch.relu(raw + shift), target, valid, section, done)


def test_the_papers_sum_is_one_part_ssi_and_two_parts_gradient() -> None:
    loss = _loss(LossSection(output="raw"))
    expected = loss.parts["ssi"] + 2 * loss.parts["gradient"]
    assert float(loss.total) == pytest.approx(float(expected))
    raw, target, valid = _maps()
    assert float(loss.parts["ssi"]) == pytest.approx(float(scale_shift_invariant_loss(raw, target, valid)))


def test_the_ramp_scales_the_gradient_term_only() -> None:
    section = LossSection(output="raw", gradient_ramp=0.5)
    early, late = _loss(section, done=0.0), _loss(section, done=0.5)
    assert float(early.total) == pytest.approx(float(early.parts["ssi"]))
    assert float(late.total) == pytest.approx(float(late.parts["ssi"] + 2 * late.parts["gradient"]))


def test_raw_training_has_a_gradient_where_the_relu_is_dead() -> None:
    raw, target, valid = _maps()
    for output, alive in (("raw", True), ("relu", False)):
        x = (raw - 100).requires_grad_(True)
        section = LossSection(output=output)  # type: ignore[arg-type]
        depth_loss(x, torch.relu(x), target, valid, section, 1.0).total.backward()
        assert x.grad is not None and bool(x.grad.abs().sum() > 0) is alive


def test_the_anchor_alone_sees_scale_and_shift() -> None:
    free, anchored = LossSection(output="raw"), LossSection(output="raw", anchor_weight=1.0)
    assert float(_loss(free, shift=5.0).total) == pytest.approx(float(_loss(free).total), rel=1e-4)
    assert float(_loss(anchored, shift=5.0).total) > float(_loss(anchored).total) + 1


def test_top_loss_masking_lowers_the_loss_and_never_reads_invalid_pixels() -> None:
    raw, target, valid = _maps()
    section = LossSection(output="raw", top_loss_fraction=0.1)
    plain = _loss(LossSection(output="raw")).parts["ssi"]
    assert float(_loss(section).parts["ssi"]) < float(plain)
    poisoned = torch.where(valid, raw, torch.full_like(raw, float("nan")))
    assert torch.isfinite(depth_loss(poisoned, poisoned, target, valid, section, 1.0).total)


@pytest.mark.parametrize(
    ("alignment", "loss"),
    [
        ("median", scale_shift_invariant_loss),
        ("least_squares", least_squares_loss),
        ("hierarchical", hierarchical_loss),
        ("none", lambda p, t, m: torch.stack([(p - t).abs()[i][m[i]].mean() for i in range(2)]).mean()),
    ],
)
def test_every_alignment_is_one_key_away(alignment: str, loss: Callable[..., Tensor]) -> None:
    raw, target, valid = _maps()
    section = LossSection(output="raw", alignment=alignment)  # type: ignore[arg-type]
    assert float(_loss(section).parts["ssi"]) == pytest.approx(float(loss(raw, target, valid)), rel=1e-5)


def test_least_squares_matches_gradients_on_the_aligned_map() -> None:
    _, target, valid = _maps()
    section = LossSection(output="raw", alignment="least_squares")
    flipped = depth_loss(-3 * target + 5, -3 * target + 5, target, valid, section, 1.0)
    assert float(flipped.parts["gradient"]) < 1e-5, "blind to the sign of the map, as documented"


def test_trimming_spares_the_gradient_term_and_divides_by_all_pixels() -> None:
    raw, target, valid = _maps()
    plain, trimmed = _loss(LossSection(output="raw")), _loss(LossSection(output="raw", trim=0.2))
    assert float(trimmed.parts["gradient"]) == float(plain.parts["gradient"])
    expected = []
    for p, t, m in zip(raw, target, valid, strict=True):
        alone = [scale_free(x[m]) for x in (p, t)]
        residuals = (alone[0] - alone[1]).abs().sort().values
        expected.append(residuals[: math.ceil(0.8 * len(residuals))].sum() / len(residuals))
    assert float(trimmed.parts["ssi"]) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)


def scale_free(values: Tensor) -> Tensor:
    centred = values - values.median()
    return centred / centred.abs().mean()


def test_the_two_parts_of_a_cutmix_picture_are_judged_apart_and_weighted_by_area() -> None:
    raw, target, valid = _maps()
    pasted = torch.zeros_like(valid)
    pasted[0, 2:6, 3:9] = True  # the second picture is not mixed
    section = LossSection(output="raw")
    mixed = depth_loss(raw, raw, target, valid, section, 1.0, pasted=pasted)
    share = 24 / 99
    first = (1 - share) * scale_shift_invariant_loss(raw[:1], target[:1], (valid & ~pasted)[:1])
    first = first + share * scale_shift_invariant_loss(raw[:1], target[:1], (valid & pasted)[:1])
    second = scale_shift_invariant_loss(raw[1:], target[1:], valid[1:])
    assert float(mixed.parts["ssi"]) == pytest.approx(float((first + second) / 2), rel=1e-5)
    scaled = torch.where(pasted, 7 * raw + 3, raw)
    again = depth_loss(scaled, scaled, target, valid, section, 1.0, pasted=pasted)
    assert float(again.parts["ssi"]) == pytest.approx(float(mixed.parts["ssi"]), rel=1e-4), "a scale for each part"


def test_exact_labels_lose_no_pixel_to_top_loss_masking() -> None:
    raw, target, valid = _maps()
    section = LossSection(output="raw", top_loss_fraction=0.1)
    exact = depth_loss(raw, raw, target, valid, section, 1.0, labelled=torch.tensor([True, True]))
    assert float(exact.total) == pytest.approx(float(_loss(LossSection(output="raw")).total))
    half = depth_loss(raw, raw, target, valid, section, 1.0, labelled=torch.tensor([True, False]))
    assert float(_loss(section).total) < float(half.total) < float(exact.total)


@pytest.mark.parametrize("alignment", ["median", "least_squares", "hierarchical", "none"])
def test_a_batch_is_the_mean_of_its_images(alignment: str) -> None:
    """So that micro-batches and processes add up to the whole."""
    raw, target, valid = _maps()
    section = LossSection(output="raw", alignment=alignment, trim=0.1, anchor_weight=0.5)  # type: ignore[arg-type]
    alone = [
        depth_loss(raw[i : i + 1], raw[i : i + 1], target[i : i + 1], valid[i : i + 1], section, 1.0) for i in (0, 1)
    ]
    both = depth_loss(raw, raw, target, valid, section, 1.0)
    assert float(both.total) == pytest.approx(sum(float(loss.total) for loss in alone) / 2, rel=1e-5)
