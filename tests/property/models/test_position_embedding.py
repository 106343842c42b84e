from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datk.models.depth_anything import DepthAnything

NET = DepthAnything("tiny").pretrained
NET.pos_embed = torch.nn.Parameter(NET.pos_embed[..., :16].detach().clone())  # fewer channels, same rule
torch.nn.init.normal_(NET.pos_embed, generator=torch.Generator().manual_seed(0))


def cubic_matrix(n_out: int) -> NDArray[np.float64]:
    """(n_out, 37): Keys' cubic kernel, a = -0.75, sampled with scale (n_out + 0.1)/37, edges repeated."""
    scale = (n_out + 0.1) / 37
    weights = np.zeros((n_out, 37))
    for i in range(n_out):
        centre = (i + 0.5) / scale - 0.5
        left = int(np.floor(centre))
        for j in range(left - 1, left + 3):
            x = abs(centre - j)
            near = 1.25 * x**3 - 2.25 * x**2 + 1
            far = -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            weights[i, min(max(j, 0), 36)] += near if x <= 1 else far
    return weights


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_resize_is_bicubic_with_a_grid_offset_of_a_tenth(h: int, w: int) -> None:
    with torch.no_grad():
        found = NET.position_embedding((h, w))[0].numpy()
    stored = NET.pos_embed.detach().numpy()[0].astype(np.float64)
    if (h, w) == (37, 37):
        expected = stored[1:]
    else:
        grid = stored[1:].reshape(37, 37, -1)
        expected = np.einsum("yi,ijc,xj->yxc", cubic_matrix(h), grid, cubic_matrix(w), optimize=True).reshape(h * w, -1)
    assert np.array_equal(found[0], stored[0].astype(np.float32))  # the class token's is never resized
    np.testing.assert_allclose(found[1:], expected, atol=2e-4)


def test_the_stored_grid_is_used_untouched_at_518_only() -> None:
    assert NET.position_embedding((37, 37)) is NET.pos_embed


def test_resize_passes_gradients_to_the_stored_grid() -> None:
    NET.zero_grad()
    NET.position_embedding((5, 9)).square().sum().backward()
    assert NET.pos_embed.grad is not None and (NET.pos_embed.grad != 0).float().mean() > 0.1
    NET.zero_grad()
