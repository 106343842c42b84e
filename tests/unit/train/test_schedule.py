"""Learning rate, ramp and average at the points one can compute by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from datk.config.train_sections import ScheduleSection
from datk.train.average import WeightAverage
from datk.train.optimise import parameter_groups
from datk.train.schedule import learning_rate_factor, ramp, steps_for_budget


@pytest.mark.parametrize(("decay", "middle"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5), ("poly", 0.5**0.9)])
def test_shapes_start_at_the_peak_and_pass_the_middle(decay: str, middle: float) -> None:
    section = ScheduleSection(decay=decay)  # type: ignore[arg-type]
    assert learning_rate_factor(0, 100, section) == pytest.approx(1.0)
    assert learning_rate_factor(50, 100, section) == pytest.approx(middle)


def test_warm_up_grows_from_its_first_share_to_the_peak_and_the_end_is_the_final_ratio() -> None:
    section = ScheduleSection(warmup=0.1, decay="linear", final_lr_ratio=0.25)
    factors = [learning_rate_factor(step, 100, section) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == pytest.approx(1.0)
    assert factors[10] == pytest.approx(1.0) and factors[-1] == pytest.approx(0.25 + 0.75 / 90)
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


def test_ramp_is_linear_then_one() -> None:
    assert [ramp(x, 0.5) for x in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.5, 1.0, 1.0]
    assert ramp(0.0, 0.0) == 1.0


def test_steps_for_a_budget_leave_out_what_measuring_took() -> None:
    assert steps_for_budget(100, step_s=0.5, spent_s=10) == 180


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pretrained = nn.Linear(3, 4)
        self.depth_head = nn.Linear(4, 1)
        self.dead = nn.Linear(2, 2).requires_grad_(False)


def test_encoder_and_head_learn_at_their_own_rates_and_biases_do_not_decay() -> None:
    section = ScheduleSection(encoder_lr=1e-6, decoder_lr=1e-4, weight_decay=0.1)
    groups = {
        (g["peak_lr"], g["weight_decay"]): [p.ndim for p in g["params"]] for g in parameter_groups(_Net(), section)
    }
    assert groups == {(1e-6, 0.1): [2], (1e-6, 0.0): [1], (1e-4, 0.1): [2], (1e-4, 0.0): [1]}


def test_average_of_a_constant_is_the_constant_and_moves_slowly_after() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    average = WeightAverage(net, decay=0.9)
    for _ in range(200):
        average.update(net)
    assert float(average.values["weight"]) == pytest.approx(2.0)
    nn.init.constant_(net.weight, 3.0)
    average.update(net)
    assert float(average.values["weight"]) == pytest.approx(2.1)
    average.copy_to(net)
    assert torch.equal(net.weight, average.values["weight"])
