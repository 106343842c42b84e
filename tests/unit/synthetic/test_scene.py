"""Scenes are a function of (seed, index) and as varied as promised."""

from __future__ import annotations

import numpy as np
import pytest

from datk.data.synthetic import build_scene
from datk.data.synthetic.families import FAMILIES, tagged
from datk.data.synthetic.layouts import LAYOUTS
from datk.data.synthetic.textures import LAYERS, texture_bank


def test_same_seed_and_index_give_the_same_triangles_and_film() -> None:
    first, second = build_scene(3, 5), build_scene(3, 5)
    np.testing.assert_array_equal(first.geometry.triangles, second.geometry.triangles)
    np.testing.assert_array_equal(first.geometry.uv, second.geometry.uv)
    assert first.geometry.materials == second.geometry.materials
    assert first.film == second.film and first.environment == second.environment


def test_other_seed_or_index_gives_another_scene() -> None:
    shapes = {build_scene(seed, index).geometry.triangles.tobytes() for seed in (0, 1) for index in range(4)}
    assert len(shapes) == 8


def test_there_are_twelve_families_and_three_thin_ones_at_least() -> None:
    assert len(FAMILIES) >= 12
    thin = tagged("thin")
    assert len(thin) >= 3
    assert {"fence", "grille", "wheel", "chair", "rosette", "perforated_plate", "cables", "railing"} <= set(thin)


@pytest.mark.parametrize("name", FAMILIES)
def test_family_stands_on_its_base_and_is_finite(name: str) -> None:
    for seed in range(3):
        parts = FAMILIES[name].build(np.random.default_rng(seed))
        points = np.concatenate([p.mesh.triangles.reshape(-1, 3) for p in parts])
        assert np.isfinite(points).all()
        assert 0.02 < np.ptp(points, axis=0).max() < 40.0
        for mesh, _ in parts:
            edges = mesh.triangles[:, 1:] - mesh.triangles[:, :1]
            solid = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1) > 1e-9
            np.testing.assert_allclose(np.linalg.norm(mesh.normals[solid], axis=-1), 1.0, atol=1e-6)
        if not FAMILIES[name].tags & {"wall", "ceiling"}:
            assert points[:, 2].min() > -1.0


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_layout_shows_objects_and_keeps_them_off_the_lens(kind: str) -> None:
    for index in range(2):
        scene = build_scene(9, index, kind=kind)
        geometry = scene.geometry
        assert scene.kind == kind
        assert 20 < len(geometry.triangles) < 80_000
        assert 0 < geometry.opaque_count <= len(geometry.triangles)
        assert np.isfinite(geometry.triangles).all() and np.isfinite(geometry.normals).all()
        assert (geometry.surface[: geometry.opaque_count] == 0).all()


def test_layout_shares_sum_to_one() -> None:
    assert sum(share for _, share in LAYOUTS.values()) == pytest.approx(1.0)
    assert all(share > 0 for _, share in LAYOUTS.values())


def test_many_scenes_use_most_families_glass_and_mirrors() -> None:
    scenes = [build_scene(0, index) for index in range(60)]
    families = {family for scene in scenes for family in scene.families}
    assert len(families & set(FAMILIES)) >= 30
    surfaces = {int(m.surface) for scene in scenes for i in scene.instances for _, m in i.parts}
    assert surfaces == {0, 1, 2}
    assert len({scene.kind for scene in scenes}) >= 8


def test_texture_bank_is_the_same_each_time_and_not_flat() -> None:
    bank = texture_bank()
    assert bank.shape[0] == LAYERS and bank.dtype == np.uint8
    assert (bank[..., 0].reshape(LAYERS, -1).std(axis=1) > 4).all()


def test_lower_in_the_picture_is_not_always_nearer(renderer) -> None:  # type: ignore[no-untyped-def]
    """Over many scenes the row rule must fail often enough that a net has to learn something else."""
    hits = total = 0
    for index in range(16):
        depth = renderer.render(build_scene(5, index), (28, 36)).depth_m
        upper, lower = depth[:14].ravel(), depth[14:].ravel()
        valid = np.isfinite(upper) & np.isfinite(lower)
        hits += int((lower < upper)[valid].sum())
        total += int(valid.sum())
    assert 0.4 < hits / total < 0.92
