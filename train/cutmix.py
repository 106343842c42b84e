"""CutMix: a rectangle of another picture, with its own target, pasted into a training picture.

Source: Depth Anything V1 section 3.2: u_ab = u_a * M + u_b * (1 - M) for two unlabelled pictures that are both
distorted in colour already; the losses of the two parts stand in objective.depth_loss. The paper gives the probability
(a half) and not the rectangle; 2 to 40 % of the area and an aspect of 0.3 to 1 / 0.3 are its first author's habit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datk.config.augment_section import AugmentSection
from datk.depth.io_spec import Size
from datk.train.augment import Augmented

ATTEMPTS = 20
"""Draws of a rectangle before one that fits is cut to the picture."""


def rectangle(size: Size, section: AugmentSection, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(h, w) bool: a random rectangle of `cutmix_area` of the picture, at least one pixel and never all of them."""
    h, w = size
    mask = np.zeros(size, np.bool_)
    for _ in range(ATTEMPTS):
        area = rng.uniform(*section.cutmix_area) * h * w
        aspect = np.exp(rng.uniform(np.log(section.cutmix_aspect), -np.log(section.cutmix_aspect)))
        height, width = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if height <= h and width <= w:
            break
    height, width = min(max(height, 1), h), min(max(width, 1), w - 1)
    top, left = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
    mask[top : top + height, left : left + width] = True
    return mask


def paste(base: Augmented, other: Augmented, inside: NDArray[np.bool_]) -> Augmented:
    """base with other's pixels, target and validity where `inside`, (h, w) bool."""
    return replace(
        base,
        image=np.where(inside[..., None], other.image, base.image),
        clean=np.where(inside[..., None], other.clean, base.clean),
        disparity=np.where(inside, other.disparity, base.disparity),
        valid=np.where(inside, other.valid, base.valid),
    )
