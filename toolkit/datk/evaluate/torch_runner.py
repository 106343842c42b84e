"""A torch net dressed as a Runner: the float reference every artifact is compared with."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from datk.depth.io_spec import DepthKind, Size
from datk.depth.preprocess import bucket_tensor, float_input, official_input, resize_output
from datk.depth.runner import DepthMap, ImageU8, check_bucket_image


class DepthNet(Protocol):
    """What the runners need of a net: models.depth_anything.DepthAnything has it."""

    @property
    def depth_kind(self) -> DepthKind: ...

    def eval(self) -> nn.Module: ...

    def to(self, device: torch.device) -> nn.Module: ...


class TorchRunner:
    """`net` at one bucket size. Takes the same uint8 image as an artifact; normalises in float32.

    net: (1, 3, h, w) normalised float32 -> (1, h, w). It is put in eval mode and moved to `device`.
    """

    def __init__(self, net: DepthNet, input_size: Size, *, name: str, device: str = "cpu") -> None:
        self._device = torch.device(device)
        self._net: nn.Module | None = net.eval().to(self._device)
        self.name = name
        self.label = f"torch-{self._device.type}"
        self.input_size = input_size
        self.depth_kind = net.depth_kind

    def predict(self, image: ImageU8) -> DepthMap:
        check_bucket_image(image, self.input_size)
        return self.forward(bucket_tensor(image))

    def predict_float(self, photo: ImageU8) -> DepthMap:
        """(H, W, 3) photograph -> (h, w) at the bucket's size, resized in float: without the 8-bit rounding."""
        return self.forward(float_input(photo, self.input_size))

    def forward(self, tensor: np.ndarray) -> DepthMap:
        """(1, 3, h, w) float32 normalised -> (h, w) float32."""
        if self._net is None:
            raise RuntimeError(f"runner {self.name} is closed")
        with torch.inference_mode():
            out: Tensor = self._net(torch.from_numpy(tensor).to(self._device))
        return np.ascontiguousarray(out[0].float().cpu().numpy())

    def close(self) -> None:
        self._net = None


class OfficialRunner(TorchRunner):
    """The documented path of the official code: float image, short side at least 518, aspect kept.

    It has no single bucket, so benchmarks call predict_photo. `input_size` says the short side, squared.
    """

    def __init__(self, net: DepthNet, *, name: str, short_side: int = 518, device: str = "cpu") -> None:
        super().__init__(net, (short_side, short_side), name=name, device=device)
        self.label = f"{self.label}-official-{short_side}"
        self._short_side = short_side

    def predict_photo(self, photo: ImageU8) -> DepthMap:
        """(H, W, 3) uint8 RGB -> (H, W) float32 at the photograph's own size."""
        return resize_output(self.predict_small(photo), (photo.shape[0], photo.shape[1]))

    def predict_small(self, photo: ImageU8) -> DepthMap:
        """(H, W, 3) uint8 RGB -> (h, w) float32 at the net's own size, before it is resized to the photograph."""
        return self.forward(official_input(photo, self._short_side))
