"""A scene in the making: what the layouts put things, lights and the camera into."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from datk.data.synthetic import mesh as m
from datk.data.synthetic.families import FAMILIES, tagged
from datk.data.synthetic.objects import Part, Rng
from datk.data.synthetic.scene import Array, Camera, Environment, Instance, Light


@dataclass
class Draft:
    """A scene in the making."""

    rng: Rng
    instances: list[Instance] = field(default_factory=list)
    camera: Camera | None = None
    lights: list[Light] = field(default_factory=list)
    environment: Environment = field(default_factory=Environment)
    clearance_m: float = 0.3

    def put(
        self,
        family: str,
        at: Array | tuple[float, float, float],
        *,
        yaw: float | None = None,
        scale: float = 1.0,
        tilt: Array | None = None,
        parts: tuple[Part, ...] | None = None,
    ) -> Instance:
        """Add one object of a family at a world point, turned about z (and tilted), scaled."""
        built = parts if parts is not None else FAMILIES[family].build(self.rng)
        angle = self.rng.uniform(0, 2 * np.pi) if yaw is None else yaw
        matrix = m.translation(*at) @ m.rotation("z", angle) @ m.scaling(scale, scale, scale)
        if tilt is not None:
            matrix = matrix @ tilt
        instance = Instance(family, built, matrix)
        self.instances.append(instance)
        return instance

    def fix(self, name: str, *parts: Part) -> None:
        """Add walls, ground or another thing that always stays, in world coordinates."""
        self.instances.append(Instance(name, parts, np.eye(4), fixed=True))

    def pick(self, *tags: str) -> str:
        """A random family with one of the tags."""
        return str(self.rng.choice(tagged(*tags)))

    def look(
        self,
        position: Array | list[float],
        target: Array | list[float],
        *,
        fov: tuple[float, float] = (40, 75),
        roll: float = 0.06,
    ) -> None:
        """Set the camera; vertical field of view in degrees drawn from `fov`, roll from a normal (radians)."""
        self.camera = Camera.looking_at(
            np.asarray(position, dtype=np.float64),
            np.asarray(target, dtype=np.float64),
            vertical_fov_rad=np.radians(self.rng.uniform(*fov)),
            roll_rad=float(self.rng.normal(0, roll)),
        )
