"""What a renderer promises, on scenes whose depth is known by hand."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from datk.data.sample import disparity_from_depth
from datk.data.synthetic import Renderer, build_scene, choose_renderer, open_renderer
from datk.data.synthetic import mesh as m
from datk.data.synthetic import renderer as renderer_module
from datk.data.synthetic.materials import Surface
from datk.data.synthetic.objects import Part
from datk.errors import EnvironmentLacks, UsageError

SIZE = (40, 56)


def _scenes() -> Any:
    """The neighbouring helper file; tests are imported by path, so it is too."""
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("synthetic_scenes", Path(__file__).with_name("scenes.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


s = _scenes()


def test_depth_is_along_the_axis_not_along_the_ray(renderer: Renderer) -> None:
    rendered = renderer.render(s.front_view(Part(s.wall(3.0, 50), s.any_material())), SIZE)
    np.testing.assert_allclose(rendered.depth_m, 3.0, rtol=1e-6)
    assert rendered.depth_m.dtype == np.float32 and rendered.image.dtype == np.uint8
    assert rendered.image.shape == (*SIZE, 3)


def test_row_zero_is_the_top_and_column_zero_the_left(renderer: Renderer) -> None:
    far = Part(s.wall(10.0, 50), s.any_material(1))
    box = Part(m.box(1.2, 0.1, 1.2, (-2.0, 3.0, 2.0)), s.any_material(2))  # left of the axis and above it
    depth = renderer.render(s.front_view(far, box), SIZE).depth_m
    rows, columns = np.nonzero(depth < 5)
    assert len(rows) and rows.max() < SIZE[0] / 2 and columns.max() < SIZE[1] / 2


def test_sky_is_infinitely_far_and_of_disparity_zero(renderer: Renderer) -> None:
    depth = renderer.render(s.front_view(Part(s.wall(4.0, 1.0), s.any_material())), SIZE).depth_m
    sky = np.isinf(depth)
    assert 0.5 < sky.mean() < 0.99 and (depth[sky] > 0).all()
    disparity, valid = disparity_from_depth(depth)
    assert (disparity[sky] == 0).all() and valid[sky].all()
    np.testing.assert_allclose(disparity[~sky], 0.25, rtol=1e-6)


@pytest.mark.parametrize("surface", [Surface.GLASS, Surface.MIRROR])
def test_pane_is_labelled_with_its_own_depth_not_with_what_it_shows(renderer: Renderer, surface: Surface) -> None:
    behind = Part(s.wall(8.0, 50), s.paint(0.9))
    pane = Part(s.wall(2.0, 1.0), s.paint(0.9, surface=surface))
    rendered = renderer.render(s.front_view(behind, pane), SIZE)
    mask = rendered.glass_mask if surface == Surface.GLASS else rendered.mirror_mask
    other = rendered.mirror_mask if surface == Surface.GLASS else rendered.glass_mask
    assert 0.05 < mask.mean() < 0.5 and not other.any()
    np.testing.assert_allclose(rendered.depth_m[mask], 2.0, rtol=1e-6)
    np.testing.assert_allclose(rendered.depth_m[~mask], 8.0, rtol=1e-6)


def test_glass_shows_what_is_behind_it(renderer: Renderer) -> None:
    """Left half of the background dark, right half bright: the pane's picture follows it, its depth does not."""
    dark, bright = s.paint(0.02), s.paint(0.95)
    left, right = (
        s.wall(6.0, 25).transformed(m.translation(-25, 0, 0)),
        s.wall(6.0, 25).transformed(m.translation(25, 0, 0)),
    )
    pane = Part(s.wall(2.0, 1.2), s.paint(1.0, surface=Surface.GLASS))
    rendered = renderer.render(s.front_view(Part(left, dark), Part(right, bright), pane), SIZE)
    red = rendered.image[..., 0].astype(float)
    columns = np.arange(SIZE[1])[None] * np.ones((SIZE[0], 1))
    near = rendered.glass_mask & (np.abs(columns - SIZE[1] / 2) > 3)
    assert red[near & (columns > SIZE[1] / 2)].mean() > red[near & (columns < SIZE[1] / 2)].mean() + 30


def test_mirror_shows_what_is_in_front_of_it(renderer: Renderer) -> None:
    """A mirror turned 45 degrees shows the wall at the side, which the camera does not see; painting it changes it."""
    plate = Part(s.wall(3.0, 1.0, facing=np.pi / 4), s.paint(0.95, surface=Surface.MIRROR))
    back = Part(s.wall(9.0, 50), s.paint(0.5))
    side = s.wall(0.0, 6.0).transformed(m.translation(8.0, 3.0, 0) @ m.rotation("z", np.pi / 2))
    pictures = [
        renderer.render(s.front_view(back, Part(side, s.paint(level)), plate), (64, 64)) for level in (0.02, 0.95)
    ]
    mask = pictures[0].mirror_mask
    assert mask.sum() > 100
    change = [p.image[..., 0].astype(float)[mask].mean() for p in pictures]
    assert abs(change[1] - change[0]) > 8


def test_thin_wires_are_in_the_depth_map(renderer: Renderer) -> None:
    x = np.linspace(-1.5, 1.5, 9)
    wires = m.tubes(np.stack([x, 0 * x + 2, 0 * x - 2], -1), np.stack([x, 0 * x + 2, 0 * x + 2], -1), 0.03)
    scene = s.front_view(Part(s.wall(9.0, 50), s.any_material()), Part(wires, s.any_material(3)))
    depth = renderer.render(scene, (80, 80)).depth_m
    middle = depth[40]
    assert 9 <= int(((middle[1:] < 3) & (middle[:-1] > 3)).sum() + (middle[0] < 3)) <= 9
    # point-sampled: a pixel is wire or wall, never a mix
    assert ((depth < 2.05) | (np.abs(depth - 9) < 1e-4)).all()


def test_two_lights_cast_shadows(renderer: Renderer) -> None:
    """The light from above throws a plate's shadow on the wall below it, beside the plate's own outline."""
    plate = Part(m.box(1.0, 0.02, 1.0, (0.0, 3.0, 1.0)), s.paint(0.5))
    with_plate = renderer.render(s.front_view(Part(s.wall(4.0, 50), s.paint(0.5)), plate), SIZE)
    without = renderer.render(s.front_view(Part(s.wall(4.0, 50), s.paint(0.5))), SIZE)
    open_wall = np.abs(with_plate.depth_m - 4.0) < 1e-3
    ratio = with_plate.image.astype(float).mean(-1) / without.image.astype(float).mean(-1).clip(1)
    relative = ratio[open_wall] / np.median(ratio[open_wall])
    assert (relative < 0.9).sum() >= 15


def test_rendering_twice_gives_the_same_bytes(renderer: Renderer) -> None:
    scene = build_scene(2, 7)
    first, second = renderer.render(scene, SIZE), renderer.render(scene, SIZE)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.depth_m, second.depth_m)


def test_pictures_are_neither_black_nor_white_nor_flat(renderer: Renderer) -> None:
    images = [renderer.render(build_scene(4, i), SIZE).image.astype(float) for i in range(12)]
    means = np.array([image.mean() for image in images])
    assert (means > 12).all() and (means < 245).all() and 60 < means.mean() < 190
    assert np.median([image.std() for image in images]) > 25


def test_auto_falls_back_to_embreex_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer_module, "why_not", lambda name: "libEGL.so.1 missing" if name == "moderngl" else None)
    choice = choose_renderer()
    assert choice.name == "embreex" and "libEGL.so.1 missing" in choice.reason


def test_no_renderer_at_all_is_an_environment_error_with_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer_module, "why_not", lambda name: f"{name} broken")
    with pytest.raises(EnvironmentLacks, match=r"moderngl broken.*embreex broken") as caught:
        choose_renderer()
    assert caught.value.exit_code == 4 and 'pip install "datk[train]"' in str(caught.value.hint)


def test_a_named_renderer_is_never_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer_module, "why_not", lambda name: "no driver")
    with pytest.raises(EnvironmentLacks, match="moderngl does not run here: no driver"):
        choose_renderer("moderngl")


def test_unknown_renderer_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="blender") as caught:
        open_renderer("blender")
    assert "moderngl" in str(caught.value.hint)
