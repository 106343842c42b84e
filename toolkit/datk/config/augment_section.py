"""Recipe section of what happens to a training picture.

Depth Anything V2 says no more than that pictures are cropped; V1 (section 3.2) mirrors labelled ones and distorts
unlabelled ones strongly: colour jitter, Gaussian blur and CutMix, whose strengths it does not publish. V2's first
author calls them unnecessary for small students of a giant teacher (Depth-Anything-V2 issue 207): off by default.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from datk.config.section import Fraction, StrictSection


class AugmentSection(StrictSection):
    """What is done to a training picture; geometry moves image and target together."""

    flip: bool = True
    """Mirror left-right with probability 1/2."""
    min_crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest crop as a fraction of the largest that has the bucket's shape; the place is always random."""
    max_stretch: float = Field(default=1.0, ge=1)
    """Largest change of aspect ratio of the crop, as a factor."""
    colour: Fraction = 0.0
    """Strength of brightness, contrast, saturation and hue jitter; 0 off, 0.5 strong."""
    colour_chance: Fraction = 1.0
    """Probability of that jitter."""
    blur: Fraction = 0.0
    """Probability of a Gaussian blur (sigma 0.1 to 2 pixels at 518, scaled with the bucket)."""
    grey: Fraction = 0.0
    """Probability of a grey picture."""
    noise: Fraction = 0.0
    """Largest standard deviation of added Gaussian noise, in units of the 0..1 range."""
    cutmix: Fraction = 0.0
    """Probability that a rectangle of another picture of the set is pasted in, its target with it (V1: 0.5 on
    unlabelled pictures); both parts' losses are taken apart. Every pasted picture is read and decoded as well."""
    cutmix_area: tuple[Fraction, Fraction] = (0.02, 0.4)
    """Smallest and largest area of the rectangle, as a fraction of the picture (not published)."""
    cutmix_aspect: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Smallest ratio of the rectangle's sides, either way round (not published)."""
