"""A torch net behind the same protocol as an artifact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datk.depth.io_spec import DepthKind
from datk.depth.runner import Runner, predict_photo
from datk.errors import DataError
from datk.evaluate.torch_runner import OfficialRunner, TorchRunner


class RedIsNear(nn.Module):
    """Disparity = the normalised red channel; fails unless it is in eval mode."""

    depth_kind = DepthKind.DISPARITY_AFFINE_INVARIANT

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        return x[:, 0]


def photo(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = 200
    return image


def test_torch_runner_is_a_runner_and_takes_rgb() -> None:
    runner = TorchRunner(RedIsNear(), (28, 42), name="toy")
    assert isinstance(runner, Runner)
    assert (runner.label, runner.depth_kind.larger_is) == ("torch-cpu", "nearer")
    out = runner.predict(photo(28, 42))
    assert out.shape == (28, 42) and out.dtype == np.float32
    np.testing.assert_allclose(out[0, 0], (200 / 255 - 0.485) / 0.229, rtol=1e-6)
    assert out[0, 0] > out[0, -1]


def test_torch_runner_refuses_another_size_or_dtype() -> None:
    runner = TorchRunner(RedIsNear(), (28, 42), name="toy")
    with pytest.raises(DataError, match="expected a uint8 RGB image"):
        runner.predict(photo(42, 28))


def test_predicting_a_photo_returns_its_own_size() -> None:
    runner = TorchRunner(RedIsNear(), (28, 42), name="toy")
    assert predict_photo(runner, photo(50, 61)).shape == (50, 61)
    assert runner.predict_float(photo(50, 61)).shape == (28, 42)


def test_official_runner_follows_the_lower_bound_rule_and_returns_the_photos_size() -> None:
    seen: list[tuple[int, ...]] = []

    class Spy(RedIsNear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(tuple(x.shape))
            return super().forward(x)

    runner = OfficialRunner(Spy(), name="toy", short_side=56)
    assert runner.predict_photo(photo(48, 64)).shape == (48, 64)
    assert seen == [(1, 3, 56, 70)]
    assert runner.label == "torch-cpu-official-56"


def test_a_closed_runner_says_so_and_closes_twice() -> None:
    runner = TorchRunner(RedIsNear(), (14, 14), name="toy")
    runner.close()
    runner.close()
    with pytest.raises(RuntimeError, match="toy is closed"):
        runner.predict(photo(14, 14))


def test_no_gradients_are_kept() -> None:
    class Weighted(RedIsNear):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            return super().forward(x) * self.weight

    TorchRunner(Weighted(), (14, 14), name="toy").predict(photo(14, 14))
