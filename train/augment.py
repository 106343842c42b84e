"""What happens to a training picture: crop, mirror, colour, blur, noise. Geometry moves the target along.

Colour and blur follow Depth Anything V1 section 3.2 in kind; its strengths are not published.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datk.config.augment_section import AugmentSection
from datk.depth.io_spec import Size
from datk.measure.phases import phase

Image = NDArray[np.float32]
BLUR_SIGMA = (0.1, 2.0)
"""Range of the blur in pixels for a picture with a short side of 518."""
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


Box = tuple[float, float, float, float]
"""(top, left, height, width)."""


@dataclass(frozen=True)
class Augmented:
    """image, clean: (h, w, 3) float32 RGB in 0..1, with and without colour changes. disparity, valid: (h, w)."""

    image: Image
    clean: Image
    disparity: NDArray[np.float32]
    valid: NDArray[np.bool_]
    crop: Box
    """What was cut out, in the picture's pixels."""
    mirrored: bool


def augment(
    image: NDArray[np.uint8],
    disparity: NDArray[np.float32],
    valid: NDArray[np.bool_],
    size: Size,
    section: AugmentSection,
    rng: np.random.Generator,
) -> Augmented:
    """image: (H, W, 3) uint8 RGB; disparity, valid: (h', w') of the same view. Returns maps of `size`.

    The image is resized cubically on the float values as at inference, the target to the nearest pixel, so that no
    value appears between an object and what lies behind it.
    """
    frame = (image.shape[0], image.shape[1])
    box = _crop(frame, size, section, rng)
    clean: Image = _resize(image, box, frame, size, cv2.INTER_CUBIC).astype(np.float32) / np.float32(255)
    near = _resize(disparity, box, frame, size, cv2.INTER_NEAREST)
    mask = _resize(valid.astype(np.uint8), box, frame, size, cv2.INTER_NEAREST) > 0
    mirrored = section.flip and rng.random() < 0.5
    if mirrored:
        clean, near, mask = clean[:, ::-1], near[:, ::-1], mask[:, ::-1]
    changed = _colour(clean, section, rng)
    return Augmented(
        np.ascontiguousarray(changed, np.float32),
        np.ascontiguousarray(clean, np.float32),
        np.ascontiguousarray(near, np.float32),
        np.ascontiguousarray(mask),
        box,
        bool(mirrored),
    )


def local_view(
    image: NDArray[np.uint8], whole: Augmented, size: Size, smallest: float, largest: float, rng: np.random.Generator
) -> tuple[Image, NDArray[np.float32]]:
    """A closer look at a part of an augmented picture, cut from the original pixels, without colour changes.

    image: the picture `whole` was cut from. smallest, largest: bounds of the part's height and width as a fraction of
    the whole's. Returns the part at `size`, (h, w, 3) float32 RGB in 0..1, and where it lies in `whole`: (top, left,
    bottom, right) as fractions 0..1.
    """
    side = rng.uniform(smallest, largest)
    top, left, height, width = whole.crop
    box = (
        top + rng.uniform(0, 1 - side) * height,
        left + rng.uniform(0, 1 - side) * width,
        side * height,
        side * width,
    )
    frame = (image.shape[0], image.shape[1])
    part = _resize(image, box, frame, size, cv2.INTER_CUBIC) / np.float32(255)
    y0, x0, y1, x1 = _pixels(whole.crop, frame, frame)
    inner = _pixels(box, frame, frame)
    above, below = (inner[0] - y0) / (y1 - y0), (inner[2] - y0) / (y1 - y0)
    before, after = (inner[1] - x0) / (x1 - x0), (inner[3] - x0) / (x1 - x0)
    if whole.mirrored:
        part, before, after = part[:, ::-1], 1 - after, 1 - before
    return np.ascontiguousarray(part, np.float32), np.array([above, before, below, after], np.float32)


def _crop(shape: tuple[int, int], size: Size, section: AugmentSection, rng: np.random.Generator) -> Box:
    """A crop in the picture's pixels, of the bucket's aspect up to the stretch."""
    stretch = section.max_stretch ** rng.uniform(-1, 1)
    aspect = size[1] / size[0] * stretch  # width / height in the picture
    height = min(shape[0], shape[1] / aspect)
    height *= rng.uniform(section.min_crop, 1.0)
    width = height * aspect
    return rng.uniform(0, shape[0] - height), rng.uniform(0, shape[1] - width), height, width


def _pixels(box: Box, frame: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) in whole pixels of a box given in a frame, in an array of the same view."""
    ratio_y, ratio_x = shape[0] / frame[0], shape[1] / frame[1]
    y0 = min(round(box[0] * ratio_y), shape[0] - 1)
    x0 = min(round(box[1] * ratio_x), shape[1] - 1)
    y1 = min(max(round((box[0] + box[2]) * ratio_y), y0 + 1), shape[0])
    x1 = min(max(round((box[1] + box[3]) * ratio_x), x0 + 1), shape[1])
    return y0, x0, y1, x1


def _resize(array: NDArray, box: Box, frame: tuple[int, int], size: Size, interpolation: int) -> NDArray:
    """Cut `box` (given in a frame of that size) out of an array that covers the same view; resize it to `size`."""
    y0, x0, y1, x1 = _pixels(box, frame, (array.shape[0], array.shape[1]))
    part = array[y0:y1, x0:x1]
    with phase("resize"):
        if interpolation == cv2.INTER_CUBIC:
            part = part.astype(np.float32)
        return np.asarray(cv2.resize(part, (size[1], size[0]), interpolation=interpolation))


def _colour(image: Image, section: AugmentSection, rng: np.random.Generator) -> Image:
    """Brightness, contrast, saturation, hue, grey, blur, noise; values stay in 0..1 when anything is done."""
    out = image
    if section.colour > 0 and (section.colour_chance == 1 or rng.random() < section.colour_chance):
        strength = section.colour
        out = out * np.float32(1 + rng.uniform(-strength, strength))
        out = (out - out.mean()) * np.float32(1 + rng.uniform(-strength, strength)) + out.mean()
        grey = (out @ _GREY)[..., None]
        out = grey + (out - grey) * np.float32(1 + rng.uniform(-strength, strength))
        out = _turn_hue(out, rng.uniform(-strength, strength) * np.pi / 2)
    if section.grey > 0 and rng.random() < section.grey:
        out = np.repeat((out @ _GREY)[..., None], 3, axis=2)
    if section.blur > 0 and rng.random() < section.blur:
        sigma = rng.uniform(*BLUR_SIGMA) * min(out.shape[:2]) / 518
        out = cv2.GaussianBlur(np.ascontiguousarray(out), (0, 0), max(sigma, 0.1))
    if section.noise > 0:
        out = out + rng.normal(0, rng.uniform(0, section.noise), out.shape).astype(np.float32)
    return out if out is image else np.clip(out, 0, 1).astype(np.float32)


def _turn_hue(image: Image, angle: float) -> Image:
    """Rotate colours about the grey axis by angle (radians); greys stay as they are."""
    cos, sin = np.cos(angle), np.sin(angle)
    third, root = (1 - cos) / 3, np.sqrt(1 / 3) * sin
    matrix = np.full((3, 3), third) + np.array([[cos, -root, root], [root, cos, -root], [-root, root, cos]])
    turned: Image = image @ matrix.T.astype(np.float32)
    return turned
