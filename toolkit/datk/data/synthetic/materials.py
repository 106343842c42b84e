"""What a surface looks like, and random draws of it by kind (wood, wall, metal, leaf, ...)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from datk.data.synthetic.textures import layer_of, poster_layer

Colour = tuple[float, float, float]


class Surface(IntEnum):
    """How light meets the surface; glass and mirror are drawn last but keep their own depth."""

    OPAQUE = 0
    GLASS = 1
    MIRROR = 2


@dataclass(frozen=True)
class Material:
    """One surface look.

    colour_a, colour_b: linear RGB 0..1, mixed by the layer's red weight; with own_colours the layer's RGB is tinted by
    colour_a instead.  texture_scale_m: metres one texture repeat covers.  specular 0..1, gloss 4..200 (Blinn exponent).
    relief: strength of the fake relief.  emission: radiance added.
    """

    colour_a: Colour
    colour_b: Colour
    layer: int
    texture_scale_m: float = 1.0
    own_colours: bool = False
    specular: float = 0.1
    gloss: float = 20.0
    relief: float = 0.5
    emission: float = 0.0
    surface: Surface = Surface.OPAQUE


def _hsv(h: float, s: float, v: float) -> Colour:
    """Linear RGB from hue, saturation, value (the value taken as linear)."""
    k = (np.array([5.0, 3.0, 1.0]) + h * 6.0) % 6.0
    rgb = v - v * s * np.clip(np.minimum(k, 4.0 - k), 0, 1)
    return float(rgb[0]), float(rgb[1]), float(rgb[2])


def random_colour(
    rng: np.random.Generator, *, saturation: float = 0.6, value: tuple[float, float] = (0.05, 0.8)
) -> Colour:
    """A colour as things have them: many greys and muted tones, few pure ones."""
    s = float(rng.beta(1.2, 2.0)) * saturation / 0.6
    low, high = value
    return _hsv(float(rng.random()), min(s, 1.0), float(low + (high - low) * rng.random() ** 1.4))


Range = tuple[float, float]


@dataclass(frozen=True)
class _Kind:
    """Where one kind of surface lies: patterns by name, and ranges of HSV, metres a repeat, specular and gloss."""

    patterns: str
    hue: Range
    saturation: Range
    value: Range
    scale_m: Range
    specular: Range
    gloss: Range


_ANY = (0.0, 1.0)
_KINDS = {
    "wall": _Kind(
        "noise cloud grunge stripe brick gradient dots tile weave",
        _ANY,
        (0, 0.55),
        (0.15, 0.8),
        (0.6, 3),
        (0, 0.05),
        (5, 20),
    ),
    "floor": _Kind(
        "planks tile checker marble speckle weave wood grunge",
        (0, 0.15),
        (0.05, 0.5),
        (0.08, 0.6),
        (0.6, 2.5),
        (0.02, 0.4),
        (10, 80),
    ),
    "wood": _Kind("wood planks noise", (0.04, 0.11), (0.3, 0.7), (0.06, 0.55), (0.3, 1.2), (0.02, 0.3), (10, 60)),
    "metal": _Kind("noise grunge gradient", _ANY, (0, 0.2), (0.08, 0.6), (0.2, 1), (0.4, 0.95), (30, 150)),
    "plastic": _Kind("noise gradient cloud stripe", _ANY, (0.1, 0.98), (0.04, 0.8), (0.2, 1), (0.1, 0.5), (20, 120)),
    "cloth": _Kind("weave stripe checker dots cloud", _ANY, (0.05, 0.9), (0.04, 0.7), (0.08, 0.6), (0, 0.03), (4, 8)),
    "stone": _Kind(
        "grunge speckle noise cloud marble", (0.04, 0.16), (0, 0.45), (0.06, 0.45), (0.4, 2), (0, 0.1), (5, 20)
    ),
    "soil": _Kind("grunge noise speckle leafy", (0.06, 0.12), (0.2, 0.55), (0.06, 0.35), (0.6, 3), (0, 0.02), (4, 6)),
    "grass": _Kind("leafy noise grunge", (0.17, 0.33), (0.3, 0.75), (0.05, 0.35), (0.5, 2.5), (0, 0.03), (4, 8)),
    "leaf": _Kind(
        "leafy noise gradient cloud", (0.16, 0.4), (0.3, 0.8), (0.05, 0.45), (0.08, 0.6), (0.03, 0.35), (8, 40)
    ),
    "bark": _Kind("wood grunge noise", (0.04, 0.12), (0.15, 0.5), (0.04, 0.25), (0.2, 0.8), (0, 0.03), (4, 8)),
    "asphalt": _Kind("noise speckle grunge", (0.55, 0.7), (0, 0.12), (0.05, 0.22), (0.5, 2), (0, 0.1), (5, 20)),
    "facade": _Kind("facade brick facade grunge tile", _ANY, (0.05, 0.65), (0.08, 0.6), (3, 10), (0, 0.15), (8, 40)),
    "paper": _Kind("noise gradient stripe dots checker", _ANY, (0, 0.95), (0.1, 0.85), (0.05, 0.4), (0, 0.1), (5, 30)),
}


def random_material(rng: np.random.Generator, kind: str) -> Material:
    """Draw a material of a named kind, or `any` for one of them."""
    if kind == "any":
        kind = str(rng.choice(["wood", "metal", "plastic", "cloth", "stone", "paper", "plastic", "picture"]))
    if kind == "picture":
        return Material(
            colour_a=random_colour(rng, saturation=0.2, value=(0.6, 1.0)),
            colour_b=(0.0, 0.0, 0.0),
            layer=poster_layer(int(rng.integers(1 << 16))),
            texture_scale_m=float(rng.uniform(0.15, 0.9)),
            own_colours=True,
            specular=float(rng.uniform(0, 0.2)),
            relief=0.1,
        )
    k = _KINDS[kind]
    colour_a = _hsv(float(rng.uniform(*k.hue)), float(rng.uniform(*k.saturation)), float(rng.uniform(*k.value)))
    if rng.random() < 0.75:  # two tones of one colour; else two colours
        factor = float(rng.choice([rng.uniform(0.35, 0.8), rng.uniform(1.2, 1.8)]))
        r, g, b = (min(0.95, c * factor) for c in colour_a)
        colour_b: Colour = (r, g, b)
    else:
        colour_b = _hsv(float(rng.uniform(*k.hue)), float(rng.uniform(*k.saturation)), float(rng.uniform(*k.value)))
    return Material(
        colour_a=colour_a,
        colour_b=colour_b,
        layer=layer_of(str(rng.choice(k.patterns.split())), int(rng.integers(16))),
        texture_scale_m=float(rng.uniform(*k.scale_m)),
        specular=float(rng.uniform(*k.specular)),
        gloss=float(rng.uniform(*k.gloss)),
        relief=float(rng.uniform(0.1, 1.2)),
    )


def glass(rng: np.random.Generator) -> Material:
    """Clear or lightly tinted glass."""
    tint = 1.0 - 0.25 * rng.random(3) * rng.random()
    return Material(
        (float(tint[0]), float(tint[1]), float(tint[2])),
        (1.0, 1.0, 1.0),
        layer_of("cloud", int(rng.integers(4))),
        texture_scale_m=float(rng.uniform(0.3, 1.5)),
        specular=float(rng.uniform(0.3, 1.0)),
        gloss=120.0,
        relief=float(rng.uniform(0.0, 1.0)),
        surface=Surface.GLASS,
    )


def mirror(rng: np.random.Generator) -> Material:
    """Silvered or chrome-like surface."""
    level = float(rng.uniform(0.75, 0.97))
    return Material(
        (level, level, level * float(rng.uniform(0.9, 1.0))),
        (1.0, 1.0, 1.0),
        layer_of("cloud", int(rng.integers(4))),
        specular=1.0,
        gloss=200.0,
        surface=Surface.MIRROR,
    )


def lamp(rng: np.random.Generator) -> Material:
    """A shining surface."""
    warmth = float(rng.uniform(0.5, 1.0))
    return Material(
        (1.0, 0.6 + 0.4 * warmth, warmth), (1.0, 1.0, 1.0), layer_of("noise", 0), emission=float(rng.uniform(1, 3))
    )
