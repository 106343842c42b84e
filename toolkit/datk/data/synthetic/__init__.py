"""Synthetic scenes with exact depth: one generator, two renderers, one oracle."""

from datk.data.synthetic.build import SCENE_VERSION, build_scene
from datk.data.synthetic.dataset import SyntheticItem, SyntheticSummary, generate, load
from datk.data.synthetic.renderer import Rendered, Renderer, choose_renderer, open_renderer

__all__ = [
    "SCENE_VERSION",
    "Rendered",
    "Renderer",
    "SyntheticItem",
    "SyntheticSummary",
    "build_scene",
    "choose_renderer",
    "generate",
    "load",
    "open_renderer",
]
