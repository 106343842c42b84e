"""The plan counts instead of guessing, and says with figures what does not fit."""

from __future__ import annotations

import dataclasses

import pytest

from datk.config.train_sections import ScheduleSection, StudentSection, TeacherSection
from datk.errors import EnvironmentLacks
from datk.train.plan import plan, require_fit

ON_CPU = ScheduleSection(steps=100, batch_size=8, device="cpu", precision="fp32")


def test_parameters_and_flops_are_the_published_ones() -> None:
    planned = plan(TeacherSection(size="small", input_size=(252, 252), schedule=ON_CPU), measure=False)
    assert planned.parameters == 24_785_089
    assert planned.flops_per_step == pytest.approx(8 * 3 * 21.1e9, rel=0.05), "three times 21.1 G an image at 252"
    assert planned.optimiser_bytes == pytest.approx(3 * 4 * 24.8e6, rel=0.02)
    assert planned.step_s_source == "estimated" and planned.fits


def test_activations_grow_with_the_batch_and_the_picture() -> None:
    def kept(batch: int, side: int) -> int:
        schedule = ON_CPU.model_copy(update={"batch_size": batch})
        return plan(
            TeacherSection(size="tiny", input_size=(side, side), schedule=schedule), measure=False
        ).activations_bytes

    assert kept(8, 28) == 8 * kept(1, 28)
    assert 2.5 < kept(1, 56) / kept(1, 28) < 5


def test_a_measured_step_is_marked_as_such_and_a_budget_sets_the_steps() -> None:
    schedule = ON_CPU.model_copy(update={"budget_s": 60.0})
    planned = plan(TeacherSection(size="tiny", input_size=(28, 28), schedule=schedule))
    assert planned.step_s_source == "measured"
    assert planned.total_s == pytest.approx(60.0, rel=0.2)


def test_the_reference_encoder_is_counted() -> None:
    section = StudentSection(size="tiny", input_size=(28, 28), schedule=ON_CPU)
    planned = plan(section, teacher_size="small", measure=False)
    assert planned.reference_bytes == pytest.approx(4 * 22.06e6, rel=0.01)


def test_what_does_not_fit_is_told_with_the_arithmetic() -> None:
    planned = plan(TeacherSection(size="tiny", input_size=(28, 28), schedule=ON_CPU), measure=False)
    none = dataclasses.replace(planned, available_bytes=1024**2)
    assert not none.fits
    with pytest.raises(
        EnvironmentLacks, match=r"tiny, batch 8: weights 0\.02 \+ .* = 0\.\d+ GiB, available 0\.00"
    ) as caught:
        require_fit(none)
    assert "smaller --size" in (caught.value.hint or "")
    roomy = dataclasses.replace(planned, available_bytes=planned.memory_bytes - planned.activations_bytes // 2)
    with pytest.raises(EnvironmentLacks) as caught:
        require_fit(roomy)
    assert "batch_size: 4 would fit" in (caught.value.hint or "")
