"""The oracle against closed forms and against itself without culling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datk.data.synthetic import build_scene
from datk.data.synthetic import mesh as m
from datk.data.synthetic.materials import Material
from datk.data.synthetic.objects import Part
from datk.data.synthetic.oracle import cast
from datk.data.synthetic.scene import Camera, Environment, Film, Instance, Light, Scene

SIZE = (16, 20)


def _scene(mesh: m.Mesh) -> Scene:
    camera = Camera.looking_at(np.zeros(3), np.array([0.0, 1.0, 0.0]), vertical_fov_rad=1.2)
    light = Light(np.array([0.0, 1.0, 0.0]), (1.0, 1.0, 1.0))
    part = Part(mesh, Material((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0))
    instance = Instance("constructed", (part,), np.eye(4), fixed=True)
    return Scene("constructed", (instance,), camera, (light, light), Environment(), Film())


@settings(max_examples=40)
@given(st.floats(0.3, 80), st.floats(-1.2, 1.2), st.floats(-1.2, 1.2))
def test_tilted_plane_has_its_closed_form(distance: float, turn: float, tip: float) -> None:
    plane = m.quad(np.array([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]]) * 4000)
    tilt = m.rotation("z", turn) @ m.rotation("x", tip)
    scene = _scene(plane.transformed(m.translation(0, distance, 0) @ tilt))
    normal = scene.camera.rotation @ tilt[:3, :3] @ np.array([0.0, 1.0, 0.0])
    expected = distance * normal[2] / (scene.camera.rays(SIZE) @ normal)
    depth = cast(scene, SIZE).depth_m
    seen = (expected > 0.1) & (expected < 200)
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=2e-4)  # corners are float32 at 4 km


@settings(max_examples=12)
@given(st.floats(0.3, 3), st.floats(1.5, 30))
def test_sphere_has_its_closed_form_up_to_faceting(radius: float, gap: float) -> None:
    distance = radius + gap
    scene = _scene(m.sphere(radius, segments=64, rings=40).transformed(m.translation(0, distance, 0)))
    rays = scene.camera.rays(SIZE)
    a, b = (rays * rays).sum(-1), distance
    inside = b * b - a * (distance**2 - radius**2)
    depth = cast(scene, SIZE).depth_m
    well_inside = inside > 0.1 * radius**2
    expected = (b - np.sqrt(inside[well_inside])) / a[well_inside]
    np.testing.assert_allclose(depth[well_inside], expected, atol=0.01 * radius)
    assert np.isinf(depth[inside < -0.1 * radius**2]).all()


@pytest.mark.parametrize(("kind", "index"), [("living_room", 1), ("bin_from_above", 2), ("open_country", 0)])
def test_culling_changes_nothing(kind: str, index: int) -> None:
    scene = build_scene(8, index, kind=kind)
    fast, plain = cast(scene, (10, 14)), cast(scene, (10, 14), culled=False)
    np.testing.assert_array_equal(fast.depth_m, plain.depth_m)
    np.testing.assert_array_equal(fast.surface, plain.surface)
