"""From radiance to a photograph: exposure, white balance, tone curve, lens and sensor faults."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datk.data.synthetic.scene import Film


def random_film(rng: np.random.Generator) -> Film:
    """Draw camera faults as snapshots have them; most are mild."""
    temperature = rng.normal(0, 0.09)
    tint = rng.normal(0, 0.025)
    motion = rng.normal(0, 0.6, 2) if rng.random() < 0.12 else np.zeros(2)
    return Film(
        exposure=float(np.exp(rng.normal(0.0, 0.3))),
        balance=(float(np.exp(temperature)), float(np.exp(tint)), float(np.exp(-temperature))),
        contrast=float(rng.uniform(0.85, 1.35)),
        saturation=float(rng.uniform(0.7, 1.6)) if rng.random() < 0.94 else 0.0,
        vignette=float(rng.uniform(0, 0.35)) if rng.random() < 0.6 else 0.0,
        blur_px=float(rng.uniform(0.3, 0.75)) if rng.random() < 0.35 else 0.0,
        motion_px=(float(motion[0]), float(motion[1])),
        noise=float(rng.exponential(0.005)),
        seed=int(rng.integers(1 << 31)),
    )


def develop(radiance: NDArray[np.float32], film: Film) -> NDArray[np.uint8]:
    """(H, W, 3) linear radiance >= 0 -> (H, W, 3) uint8 sRGB-like photograph.

    Automatic exposure to a mid grey, then the film's own exposure, white balance, filmic curve (Hable-like shoulder
    x (a x + b) / (x (c x + d) + e), Narkowicz 2015), contrast, saturation, vignette, blur and noise.
    """
    height, width = radiance.shape[:2]
    image = np.clip(np.nan_to_num(radiance, nan=0.0, posinf=50.0), 0.0, 50.0)
    luminance = image @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    level = float(np.exp(np.log(luminance + 1e-3).mean()))
    image *= (film.exposure * 0.16 / max(level, 0.01) * np.asarray(film.balance)).astype(np.float32)
    if film.vignette:
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        image *= (1 - film.vignette * (x * x + y * y) / 2)[..., None].astype(np.float32)
    if film.blur_px or any(film.motion_px):
        image = _blur(image, film)
    shoulder = image * (2.51 * image + 0.03) / (image * (2.43 * image + 0.59) + 0.14)
    image = shoulder.astype(np.float32)
    grey = (image @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    image = grey + film.saturation * (image - grey)
    image = np.clip(image, 0, 1) ** np.float32(1 / 2.2)
    image = np.clip(0.5 + film.contrast * (image - 0.5), 0, 1)
    if film.noise:
        rng = np.random.default_rng(film.seed)
        shared = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(film.noise)
        own = rng.standard_normal((height, width, 3), dtype=np.float32) * np.float32(0.5 * film.noise)
        image = image + (shared + own) * (0.5 + np.sqrt(image))
    photograph: NDArray[np.uint8] = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return photograph


def _blur(image: NDArray[np.float32], film: Film) -> NDArray[np.float32]:
    """Separable Gaussian of blur_px plus a straight motion of motion_px, by shifting and averaging."""
    if film.blur_px:
        radius = 3
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / film.blur_px) ** 2)
        kernel /= kernel.sum()
        for axis in (0, 1):
            pad = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
            padded = np.pad(image, pad, mode="edge")
            image = sum(
                np.float32(k) * padded.take(range(i, i + image.shape[axis]), axis) for i, k in enumerate(kernel)
            )  # type: ignore[assignment]
    dy, dx = film.motion_px
    if dy or dx:
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="edge")
        total = np.zeros_like(image)
        steps = 5
        for t in np.linspace(-1, 1, steps):
            r, c = (int(np.clip(round(3 + t * 1.5 * d), 0, 6)) for d in (dy, dx))
            total += padded[r : r + image.shape[0], c : c + image.shape[1]]
        image = total / np.float32(steps)
    return image
