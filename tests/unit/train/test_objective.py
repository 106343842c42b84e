"""The sum of the losses: each weight does what its name says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from datk.config.train_sections import LossSection
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
