"""build_scene(seed, index): the one way from two integers to a scene."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic.film import random_film
from datk.data.synthetic.layouts import LAYOUTS, Draft
from datk.data.synthetic.scene import Instance, Scene

SCENE_VERSION = "4"
"""Changes whenever the same (seed, index) may give another picture; part of every cache key."""


def build_scene(seed: int, index: int, *, kind: str | None = None) -> Scene:
    """Scene `index` of the endless sequence of a seed; depends on nothing else.

    kind: a name in LAYOUTS to force the layout; None draws it by its share.
    """
    rng = np.random.default_rng([20240613, seed, index])
    names = list(LAYOUTS)
    drawn = str(rng.choice(names, p=[LAYOUTS[name][1] for name in names]))
    chosen = kind or drawn
    draft = Draft(rng)
    LAYOUTS[chosen][0](draft)
    camera = draft.camera
    assert camera is not None and len(draft.lights) == 2, chosen
    instances = tuple(i for i in draft.instances if i.fixed or _distance(i, camera.position) > draft.clearance_m)
    first, second = draft.lights
    return Scene(chosen, instances, camera, (first, second), draft.environment, random_film(rng))


def _distance(instance: Instance, point: np.ndarray) -> float:
    """Distance in metres from a point to the instance's bounding box; 0 inside."""
    low, high = instance.bounds()
    return float(np.linalg.norm(np.maximum(np.maximum(low - point, point - high), 0)))
