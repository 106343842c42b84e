"""Small stand-ins for net and data: enough for the loop's promises, milliseconds a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from datk.config.train_sections import AugmentSection, LossSection
from datk.train.loop import StepLoss
from datk.train.objective import depth_loss
from datk.train.samples import Batch, Batches, TrainingSample


class ToyNet(nn.Module):
    """Two convolutions; `pretrained` plays the encoder."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.pretrained = nn.Conv2d(3, 8, 3, padding=1)
            self.head = nn.Conv2d(8, 1, 3, padding=1)

    def forward_train(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.tanh(self.pretrained(x))
        return self.head(features).squeeze(1), features.flatten(2).transpose(1, 2)

    def activate(self, raw: Tensor) -> Tensor:
        return torch.relu(raw)


@dataclass(frozen=True)
class ToySource:
    """Brightness is disparity: learnable in a few steps."""

    count: int = 10

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> TrainingSample:
        rng = np.random.default_rng(index)
        ramp = np.linspace(0, 1, 32, dtype=np.float32)[None] * rng.uniform(0.3, 1) + np.zeros((28, 1), np.float32)
        noise = rng.normal(0, 0.02, (28, 32, 3))
        image = np.clip((ramp[..., None] + noise) * 255, 0, 255).astype(np.uint8)
        return TrainingSample(image, ramp, np.ones(ramp.shape, np.bool_))


def toy_batches(seed: int = 0) -> Batches:
    return Batches(ToySource(), input_size=(14, 14), augment=AugmentSection(min_crop=0.6), batch_size=4, seed=seed)


def toy_step(net: ToyNet, loss: LossSection | None = None):
    section = loss or LossSection(output="raw", scale_floor=1e-2, gradient_weight=0.5)

    def step(batch: Batch, done: float) -> StepLoss:
        raw, _ = net.forward_train(batch.image)
        return depth_loss(raw, net.activate(raw), batch.target, batch.valid, section, done)

    return step
