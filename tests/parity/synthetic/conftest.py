"""The renderers that run on this machine; a missing one is skipped by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from datk.data.synthetic import Renderer, open_renderer
from datk.data.synthetic.renderer import RENDERERS, why_not


@pytest.fixture(scope="session", params=RENDERERS)
def renderer(request: pytest.FixtureRequest) -> Iterator[Renderer]:
    """Each renderer in turn."""
    reason = why_not(request.param)
    if reason is not None:
        needs = "EGL and OpenGL 4.0 (libegl1, libgl1-mesa-dri)" if request.param == "moderngl" else "embreex, trimesh"
        pytest.skip(f"renderer {request.param} needs {needs}: {reason}")
    device = open_renderer(request.param)
    yield device
    device.close()
