"""Whether a program still sees what the teacher saw: its maps against the pseudo-labels of the calibration set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datk.depth.io_spec import DepthKind
from datk.depth.teacher import NEAREST_M
from datk.evaluate.metrics import correlation
from datk.quantize.calibration import input_tensor
from datk.targets.base import InputForm


def label_agreement(
    net: Callable[[Tensor], Tensor],
    images: Sequence[NDArray[np.uint8]],
    labels: Sequence[NDArray[np.float32]],
    *,
    input_form: InputForm,
    depth_kind: DepthKind,
) -> NDArray[np.float64]:
    """Pearson correlation of net's disparity with each label, (n,); nan where either is constant.

    net: a deployment module or a quantised program, float or int8 alike. images: (h, w, 3) uint8 RGB of its bucket.
    labels: (H, W) float32 disparity, larger is nearer, of the same photographs at any size. Metric depth is inverted.
    Measured in the quantised program itself, so that a loss of the quantiser is told from one of a compiler.
    """
    found = []
    with torch.no_grad():
        for image, label in zip(images, labels, strict=True):
            output = net(input_tensor(image, input_form))[0].numpy()  # (h, w)
            disparity = output if depth_kind is not DepthKind.DEPTH_METRIC_M else 1 / np.maximum(output, NEAREST_M)
            size = (disparity.shape[1], disparity.shape[0])
            found.append(correlation(disparity, cv2.resize(label, size, interpolation=cv2.INTER_AREA)))
    return np.array(found, np.float64)
