"""Our own net, or any official checkpoint, as a teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datk.depth.io_spec import Size
from datk.depth.preprocess import float_input, lower_bound_size
from datk.depth.runner import ImageU8
from datk.depth.teacher import Prepared
from datk.models.depth_anything import DepthAnything
from datk.train.precision import autocast, choose_device, choose_precision
from datk.train.start import weights_digest


class NetTeacher:
    """net: put in eval mode and moved to the device until close(). See datk.depth.teacher.Teacher.

    input_size: what it sees, (height, width); None: the official rule, short_side and the photograph's own aspect.
    Raises EnvironmentLacks for a device or precision that is not there.
    """

    def __init__(
        self,
        net: DepthAnything,
        *,
        source: str,
        licence: str,
        input_size: Size | None,
        short_side: int = 518,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self._device = choose_device(device)
        self._precision = choose_precision(precision, self._device)
        self._net: DepthAnything | None = net.eval().to(self._device)
        self.device, self.precision = self._device.type, str(self._precision)
        self._input_size, self._short_side = input_size, short_side
        self.name = f"{net.preset.name} ({net.depth_kind})"
        self.source, self.licence = source, licence
        self.digest = weights_digest(net)
        self.depth_kind = net.depth_kind
        rule = list(input_size) if input_size else f"short side {short_side}"
        self.identity: dict[str, Any] = {"family": "datk", "input_size": rule, "max_depth_m": net.max_depth_m}
        self.notes: tuple[str, ...] = ()

    def prepare(self, photo: ImageU8) -> Prepared:
        size = self._input_size or lower_bound_size((photo.shape[0], photo.shape[1]), self._short_side)
        return Prepared(float_input(photo, size)[0])

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._net is None:
            raise RuntimeError(f"teacher {self.source} is closed")
        with torch.inference_mode(), autocast(self._device, self._precision):
            out = self._net(torch.from_numpy(batch).to(self._device)).float()
        return np.ascontiguousarray(out.cpu().numpy())

    def close(self) -> None:
        if self._net is not None:
            self._net.to("cpu")
            self._net = None
