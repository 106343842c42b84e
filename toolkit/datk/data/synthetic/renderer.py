"""What a renderer is, what it returns, and which one this machine can run."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datk.data.synthetic.scene import Scene, Size
from datk.errors import EnvironmentLacks, UsageError

RENDERERS = ("moderngl", "embreex")
PIP_LINE = 'pip install "datk[train]"'


@dataclass(frozen=True)
class Rendered:
    """image: (H, W, 3) uint8 RGB.  depth_m: (H, W) float32 along the axis, inf where the sky is seen.

    glass_mask, mirror_mask: (H, W) bool, where the nearest surface is glass or mirror (its own depth is in depth_m).
    """

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    glass_mask: NDArray[np.bool_]
    mirror_mask: NDArray[np.bool_]


class Renderer(Protocol):
    """Draws scenes; one per process. `detail` says what draws (driver or library with version)."""

    name: str
    detail: str

    def render(self, scene: Scene, size: Size) -> Rendered:
        """Picture and exact depth of a scene at (height, width) pixels."""
        ...

    def close(self) -> None:
        """Give back what the renderer holds."""
        ...


@dataclass(frozen=True)
class Choice:
    """Which renderer `auto` came to, and why in one sentence."""

    name: str
    reason: str


_PROBE = (
    "import moderngl; c = moderngl.create_context(standalone=True, backend='egl', require=400); "
    "print(c.version_code, c.info['GL_RENDERER'])"
)


def why_not(name: str) -> str | None:
    """None if the renderer runs on this machine, else the reason.

    EGL is tried in a process of its own: a broken driver then ends that process, not this one.
    """
    if name not in RENDERERS:
        raise UsageError(f"renderer: unknown name {name!r}", hint=f"known: auto, {', '.join(RENDERERS)}")
    modules = ("moderngl",) if name == "moderngl" else ("embreex", "trimesh")
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    command = [sys.executable, "-c", _PROBE if name == "moderngl" else "import trimesh, embreex.mesh_construction"]
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return f"trying {name} took longer than 120 s"
    if probe.returncode == 0:
        return None
    lines = probe.stderr.strip().splitlines()
    return lines[-1] if lines else f"trying {name} ended with signal or status {probe.returncode}"


def choose_renderer(name: str = "auto") -> Choice:
    """Resolve `auto`: moderngl when EGL works, else embreex. A named renderer is used or refused, never swapped.

    Raises EnvironmentLacks with the reason of every renderer that was tried, UsageError for an unknown name.
    """
    if name != "auto":
        reason = why_not(name)
        if reason is not None:
            raise EnvironmentLacks(f"renderer {name} does not run here: {reason}", hint=PIP_LINE)
        return Choice(name, "named by the caller")
    no_gl = why_not("moderngl")
    if no_gl is None:
        return Choice("moderngl", "auto: EGL works")
    no_rays = why_not("embreex")
    if no_rays is None:
        return Choice("embreex", f"auto: moderngl does not run here ({no_gl})")
    raise EnvironmentLacks(f"no renderer runs here: moderngl ({no_gl}); embreex ({no_rays})", hint=PIP_LINE)


def open_renderer(name: str = "auto") -> Renderer:
    """A ready renderer of that name (`auto` as in choose_renderer)."""
    chosen = choose_renderer(name).name if name == "auto" else name
    if chosen == "moderngl":
        from datk.data.synthetic.render_gl import GLRenderer

        return GLRenderer()
    if chosen == "embreex":
        from datk.data.synthetic.render_rays import RayRenderer

        return RayRenderer()
    raise UsageError(f"renderer: unknown name {name!r}", hint=f"known: auto, {', '.join(RENDERERS)}")
