"""Both renderers against the float64 ray-cast oracle, glass and mirror pixels included."""

from __future__ import annotations

import numpy as np
import pytest

from datk.data.synthetic import Renderer, build_scene
from datk.data.synthetic.layouts import LAYOUTS
from datk.data.synthetic.oracle import cast, compare

SIZE = (42, 56)
SEED = 21
SCENES = [(kind, index) for index in (0, 1) for kind in LAYOUTS]
"""Every layout twice."""

TOLERANCE_REL = 1e-5
EDGE_SHARE = 2e-3
"""Bound on the pixels set aside: centres within 1/64 pixel of an outline, where a rasteriser may show either side.

Of all pixels of all scenes; of one scene three times as many (leaves are nearly all outline).
"""


def test_depth_equals_the_oracle_on_every_layout(renderer: Renderer) -> None:
    special = thin = 0
    shares = []
    for kind, index in SCENES:
        scene = build_scene(SEED, index, kind=kind)
        rendered = renderer.render(scene, SIZE)
        result = compare(scene, rendered.depth_m, tolerance_rel=TOLERANCE_REL)
        where = f"{kind} {index} by {renderer.detail}: {result}"
        assert result.wrong == 0, where
        assert result.max_error_rel <= TOLERANCE_REL, where
        assert result.edge_share <= 3 * EDGE_SHARE, where
        shares.append(result.edge_share)
        special += int(rendered.glass_mask.sum() + rendered.mirror_mask.sum())
        thin += len(set(scene.families) & {"fence", "grille", "wheel", "bicycle", "railing", "rosette", "chair"})
    assert float(np.mean(shares)) <= EDGE_SHARE
    assert special > 300 and thin > 8


def test_glass_and_mirror_masks_equal_the_oracle(renderer: Renderer) -> None:
    seen = {1: 0, 2: 0}
    for index in range(60):
        scene = build_scene(SEED, index, kind="living_room" if index % 2 else "tabletop")
        if not (scene.geometry.surface == 2).any():
            continue
        hits = cast(scene, SIZE)
        rendered = renderer.render(scene, SIZE)
        for number, mask in ((1, rendered.glass_mask), (2, rendered.mirror_mask)):
            expected = hits.surface == number
            assert (mask != expected).sum() <= EDGE_SHARE * mask.size + 1
            both = mask & expected
            seen[number] += int(both.sum())
            error = np.abs(rendered.depth_m[both] - hits.depth_m[both]) / hits.depth_m[both]
            assert (error > TOLERANCE_REL).sum() <= EDGE_SHARE * mask.size
        if min(seen.values()) > 20:
            return
    pytest.fail(f"too few glass and mirror pixels to judge: {seen}")


def test_a_wrong_depth_is_called_wrong() -> None:
    """The edge rule must not excuse errors: scaled, shifted or swapped depth fails."""
    scene = build_scene(SEED, 0, kind="corridor")
    truth = cast(scene, (14, 21)).depth_m.astype(np.float32)
    assert compare(scene, truth).wrong == 0
    assert compare(scene, truth * np.float32(1.0001)).wrong > 0.9 * truth.size
    assert compare(scene, np.roll(truth, 1, axis=1)).wrong > 0.1 * truth.size
    spoiled = truth.copy()
    spoiled[7, 7] *= 1.001
    assert compare(scene, spoiled).wrong == 1
