"""Learning rate and gradient weight as functions of the step, and steps as a function of a time budget."""

from __future__ import annotations

import math

from datk.config.train_sections import ScheduleSection
from datk.errors import UsageError

POLY_POWER = 0.9
"""Power of the poly decay, as in the metric fine-tuning code of Depth Anything V2."""


def learning_rate_factor(step: int, total: int, section: ScheduleSection) -> float:
    """Factor on the peak learning rate at step 0 <= step < total.

    Grows linearly over the first `warmup` share of the steps (its first step is not 0), then decays to
    `final_lr_ratio` as `decay` says.
    """
    warm = round(section.warmup * total)
    if step < warm:
        return (step + 1) / warm
    if section.decay == "constant":
        return 1.0
    left = 1 - (step - warm) / max(total - warm, 1)  # 1 at the peak, 1/n at the last step
    shape = {"linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left), "poly": left**POLY_POWER}[section.decay]
    return float(section.final_lr_ratio + (1 - section.final_lr_ratio) * shape)


def ramp(done: float, fraction: float) -> float:
    """0..1, linear over the first `fraction` of training; done: fraction of the steps taken."""
    return 1.0 if done >= fraction else done / fraction


def steps_for_budget(budget_s: float, *, step_s: float, spent_s: float) -> int:
    """Steps that fit: what is left of budget_s after spent_s seconds, at step_s seconds a step.

    Raises UsageError when fewer than ten steps would fit, with the arithmetic.
    """
    steps = math.floor((budget_s - spent_s) / step_s)
    if steps < 10:
        raise UsageError(
            f"a budget of {budget_s:.0f} s allows {max(steps, 0)} steps: one takes {step_s:.2f} s here and "
            f"measuring took {spent_s:.1f} s",
            hint=f"give at least {spent_s + 10 * step_s:.0f} s, a smaller --size or a smaller batch",
        )
    return steps
