"""The convolutional student in the same loop: what its section refuses, and that its statistics are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from datk.config.train_sections import AugmentSection, LossSection, ScheduleSection, StudentSection
from datk.models.depth_anything import DepthAnything
from datk.pipeline.distill import DistillRequest, distill_recipe
from datk.train.average import WeightAverage
from datk.train.cost import cost_of_one_image
from datk.train.loop import StepLoss, fit
from datk.train.objective import depth_loss
from datk.train.samples import Batch, Batches, TrainingSample

SIZE = (42, 56)
LOSS = LossSection(output="raw", scale_floor=1e-2, anchor_weight=0.5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"feature_source": "teacher_encoder"}, "no patch tokens"),
        ({"encoder": {"family": "vit"}}, "its own encoder"),
        ({"schedule": ScheduleSection(steps=1, batch_size=1, activation_checkpointing=True)}, "cannot recompute"),
        ({"input_size": (28, 56)}, "42 pixels a side"),
    ],
)
def test_section_refuses_what_a_convolutional_net_cannot_do(wrong: dict[str, Any], words: str) -> None:
    right = {"size": "mobile", "feature_source": "off", "input_size": SIZE}
    StudentSection.model_validate(right)
    with pytest.raises(ValidationError, match=words):
        StudentSection.model_validate(right | wrong)


def test_distill_line_switches_feature_alignment_off_and_says_so() -> None:
    recipe, said = distill_recipe(DistillRequest(size="mobile", budget_s=5.0))
    assert recipe.student is not None and (recipe.student.size, recipe.student.feature_source) == ("mobile", "off")
    assert any("no feature alignment" in line for line in said)
    assert recipe.student.loss == distill_recipe(DistillRequest(size="tiny"))[0].student.loss


def test_backward_costs_twice_the_forward_pass() -> None:
    cost = cost_of_one_image("mobile", SIZE)
    assert cost.flops == 3 * cost.flops_forward and cost.parameters == cost.trainable == 1_860_385


class Pictures:
    """Six noisy pictures whose disparity is their brightness."""

    def __len__(self) -> int:
        return 6

    def load(self, index: int) -> TrainingSample:
        disparity = np.random.default_rng(index).random(SIZE, dtype=np.float32)
        return TrainingSample((disparity[..., None] * 255).repeat(3, 2).astype(np.uint8), disparity, disparity > 0.05)


def trained(folder: Path, stop_after: int | None = None) -> DepthAnything:
    torch.manual_seed(0)
    net = DepthAnything("mobile")

    def step(batch: Batch, done: float) -> StepLoss:
        raw, _ = net.forward_train(batch.image)
        return depth_loss(raw, net.activate(raw), batch.target, batch.valid, LOSS, done)

    batches = Batches(Pictures(), input_size=SIZE, augment=AugmentSection(), batch_size=2, seed=0)
    schedule = ScheduleSection(
        steps=4, batch_size=2, optimiser="adamw", encoder_lr=1e-3, decoder_lr=1e-3, ema_decay=0.9, device="cpu"
    )
    fit(net, step, batches, schedule, folder, fingerprint="mobile", stop_after=stop_after)
    return net


def test_resumed_training_has_the_statistics_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole").state_dict()
    trained(tmp_path / "parts", stop_after=2)
    again = trained(tmp_path / "parts").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_average_covers_running_statistics() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    average = WeightAverage(net, 0.9)
    net[1].running_mean.fill_(2.0)
    average.update(net)
    average.copy_to(net)
    assert 0 < float(net[1].running_mean) < 2
