"""What a checkpoint predicts: said by the file, its config or its official name, or by the user; never guessed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from datk.depth.io_spec import DepthKind
from datk.errors import CheckpointError
from datk.models.checkpoint_file import WeightsFile
from datk.models.presets import Preset
from datk.models.published import by_sha256

Kind = tuple[DepthKind, float | None]
"""(depth_kind, max_depth_m)."""
ENCODERS = {"small": "vits", "base": "vitb", "large": "vitl", "giant": "vitg"}
_RELATIVE = re.compile(r"depth_anything_v2_(vit[sblg])")
_METRIC = re.compile(r"depth_anything_v2_metric_(hypersim|vkitti)_(vit[sbl])")
_FIRST_VERSION = re.compile(r"depth_anything_(?:metric_.*|vit[sbl]14)")
_MAX_DEPTH_M = {"hypersim": 20.0, "vkitti": 80.0}
_ASK = "say what it predicts: --kind relative, or --kind metric --max-depth METRES"


def resolve_kind(
    path: Path, file: WeightsFile, source: str, preset: Preset, asked: DepthKind | None, asked_max: float | None
) -> Kind:
    """The kind of a checkpoint file. asked, asked_max: what the user said, or None.

    Order: datk's own metadata, the hash of a released file, the config.json beside a Hugging Face file, the
    official file name, the user. Raises CheckpointError when nothing says it, or when the user and the file
    contradict each other.
    """
    stated = _stated(path, file, source, preset)
    if asked is None and asked_max is not None:
        asked = DepthKind.DEPTH_METRIC_M
    if asked is None:
        if stated is None:
            raise CheckpointError(f"{path}: nothing says whether these weights are relative or metric", hint=_ASK)
        return stated[0]
    if stated is not None:
        (kind, max_depth_m), by = stated
        if asked is not kind or (asked_max is not None and asked_max != max_depth_m):
            raise CheckpointError(
                f"{path}: {by} says {_words(kind, max_depth_m)}, the command says {_words(asked, asked_max)}",
                hint="leave --kind and --max-depth out, or rename the file if its name is wrong",
            )
        return kind, max_depth_m
    if asked is DepthKind.DEPTH_METRIC_M and asked_max is None:
        raise CheckpointError(f"{path}: metric, but up to how many metres is not said", hint="add --max-depth METRES")
    if asked is DepthKind.DISPARITY_AFFINE_INVARIANT and asked_max is not None:
        raise CheckpointError(f"{path}: relative disparity has no maximum depth", hint="leave --max-depth out")
    return asked, asked_max


def _words(kind: DepthKind, max_depth_m: float | None) -> str:
    if kind is DepthKind.DISPARITY_AFFINE_INVARIANT:
        return "relative"
    return "metric" if max_depth_m is None else f"metric up to {max_depth_m:g} m"


def _stated(path: Path, file: WeightsFile, source: str, preset: Preset) -> tuple[Kind, str] | None:
    """What the file itself says and where it says so."""
    if "depth_kind" in file.metadata:
        return _from_metadata(path, file.metadata), "its metadata"
    if released := by_sha256(file.sha256):
        kind = DepthKind.DEPTH_METRIC_M if released.max_depth_m else DepthKind.DISPARITY_AFFINE_INVARIANT
        return (kind, released.max_depth_m), f"its hash (the released {released.file_name})"
    if source == "huggingface":
        config = path.with_name("config.json")
        return (_from_config(config, preset), "config.json") if config.is_file() else None
    return _from_name(path, preset)


def _from_metadata(path: Path, metadata: dict[str, str]) -> Kind:
    try:
        kind = DepthKind(metadata["depth_kind"])
        max_depth_m = float(metadata["max_depth_m"]) if metadata.get("max_depth_m") else None
    except ValueError as error:
        raise CheckpointError(f"{path}: metadata not understood ({error})") from error
    if (kind is DepthKind.DEPTH_METRIC_M) != (max_depth_m is not None and 0 < max_depth_m < float("inf")):
        raise CheckpointError(f"{path}: metadata says {kind} with max_depth_m {max_depth_m}")
    return kind, max_depth_m


def _from_config(config: Path, preset: Preset) -> Kind:
    """transformers' DepthAnythingConfig; what it leaves out has the class's documented default."""
    try:
        content: Any = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{config}: not readable JSON ({error})") from error
    if not isinstance(content, dict) or content.get("model_type") != "depth_anything":
        raise CheckpointError(
            f"{config}: not the config of a depth_anything model", hint="take the one beside the weights"
        )
    _check_taps(config, content.get("backbone_config"), preset)
    kind = content.get("depth_estimation_type", "relative")
    if kind == "relative":
        return DepthKind.DISPARITY_AFFINE_INVARIANT, None
    max_depth = content.get("max_depth")
    if kind != "metric" or not isinstance(max_depth, int | float) or isinstance(max_depth, bool) or not max_depth > 0:
        raise CheckpointError(
            f"{config}: depth_estimation_type {kind!r} with max_depth {max_depth!r}",
            hint="expected 'relative', or 'metric' with a maximum in metres",
        )
    return DepthKind.DEPTH_METRIC_M, float(max_depth)


def _check_taps(config: Path, backbone: Any, preset: Preset) -> None:
    """Version 1 has the same shapes but reads the last four blocks: a silent error unless looked for."""
    found = backbone.get("out_indices") if isinstance(backbone, dict) else None
    expected = [tap + 1 for tap in preset.taps]
    if found != expected:
        raise CheckpointError(
            f"{config}: backbone_config.out_indices is {found}, expected {expected} for V2 {preset.name}",
            hint="version 1 weights have the same shapes but read other blocks; take a V2 checkpoint",
        )


def _from_name(path: Path, preset: Preset) -> tuple[Kind, str] | None:
    """By the official names of .pth files; the same stem with .safetensors counts too."""
    if path.suffix not in (".pth", ".safetensors"):
        return None
    if _FIRST_VERSION.fullmatch(path.stem):
        raise CheckpointError(
            f"{path}: by its name a Depth Anything version 1 file",
            hint="its shapes fit but it reads other blocks; take depth_anything_v2_*.pth",
        )
    relative, metric = _RELATIVE.fullmatch(path.stem), _METRIC.fullmatch(path.stem)
    if relative is None and metric is None:
        return None
    encoder = relative[1] if relative else metric[2] if metric else ""
    if encoder != ENCODERS.get(preset.name):
        raise CheckpointError(
            f"{path}: named {encoder}, but holds a {preset.name} net", hint="rename it or fetch it again"
        )
    if metric:
        return (DepthKind.DEPTH_METRIC_M, _MAX_DEPTH_M[metric[1]]), "its official name"
    return (DepthKind.DISPARITY_AFFINE_INVARIANT, None), "its official name"
