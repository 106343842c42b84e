"""Agreement with the pseudo-labels: sign, scale and broken programs are seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from datk.depth.io_spec import DepthKind
from datk.quantize.agreement import label_agreement

DISPARITY, METRIC = DepthKind.DISPARITY_AFFINE_INVARIANT, DepthKind.DEPTH_METRIC_M


def brightness(batch: Tensor) -> Tensor:
    """A net whose map is the red channel. (1, h, w, 3) uint8 -> (1, h, w) float32."""
    return batch[..., 0].float() + 1.0


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (28, 42, 3), np.uint8)


def agreement(net, image: np.ndarray, label: np.ndarray, kind: DepthKind = DISPARITY) -> float:
    return float(label_agreement(net, [image], [label], input_form="nhwc_uint8", depth_kind=kind)[0])


def test_a_net_that_puts_out_the_label_at_another_scale_agrees_fully(image: np.ndarray) -> None:
    assert agreement(brightness, image, image[..., 0].astype(np.float32) / 300) == pytest.approx(1.0)


def test_a_flipped_sign_shows(image: np.ndarray) -> None:
    assert agreement(lambda b: -brightness(b), image, image[..., 0].astype(np.float32)) == pytest.approx(-1.0)


def test_metric_depth_is_inverted_first(image: np.ndarray) -> None:
    label = 1 / (image[..., 0].astype(np.float32) + 1.0)
    assert agreement(brightness, image, label, METRIC) == pytest.approx(1.0)
    assert agreement(brightness, image, label, DISPARITY) < 0


def test_a_constant_program_has_no_agreement(image: np.ndarray) -> None:
    assert np.isnan(agreement(lambda b: torch.ones(1, 28, 42), image, image[..., 0].astype(np.float32)))
