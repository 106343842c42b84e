"""Constructed scenes whose depth is known without a renderer."""

from __future__ import annotations

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.materials import Material, Surface, random_material
from datk.data.synthetic.objects import Part
from datk.data.synthetic.scene import Camera, Environment, Film, Instance, Light, Scene


def wall(distance: float, half: float, *, facing: float = 0.0) -> m.Mesh:
    """A square across the view at y = distance, half metres to each side of the axis, turned about z by `facing`."""
    corners = np.array([[-half, 0, -half], [half, 0, -half], [half, 0, half], [-half, 0, half]])
    return m.quad(corners).transformed(m.translation(0, distance, 0) @ m.rotation("z", facing))


def front_view(*parts: Part) -> Scene:
    """Camera at the origin looking along +y, 90 degrees of view, one sun from behind it and one from above."""
    camera = Camera.looking_at(np.zeros(3), np.array([0.0, 1.0, 0.0]), vertical_fov_rad=np.pi / 2)
    lights = (
        Light(np.array([0.0, 1.0, 0.0]), (1.0, 1.0, 1.0)),
        Light(np.array([0.0, 0.6, -0.8]), (1.5, 1.5, 1.5)),
    )
    instances = tuple(Instance("constructed", (part,), np.eye(4), fixed=True) for part in parts)
    return Scene("constructed", instances, camera, lights, Environment(), Film())


def paint(red: float = 0.5, *, surface: Surface = Surface.OPAQUE) -> Material:
    """A plain material of one red level."""
    return Material((red, 0.5, 0.5), (red, 0.5, 0.5), 0, relief=0.0, surface=surface)


def any_material(seed: int = 0) -> Material:
    """A random opaque material."""
    return random_material(np.random.default_rng(seed), "wood")
