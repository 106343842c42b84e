"""Checkpoints as stages keep them: one safetensors file and the facts a manifest needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datk.artifact.manifest import Weights
from datk.depth.io_spec import DepthKind, Size

if TYPE_CHECKING:
    from datk.models.weights import Checkpoint

TRAINED_SIZE = "input_size"
"""safetensors metadata key of datk's own files: HxW the net was trained at."""
KINDS = {"relative": DepthKind.DISPARITY_AFFINE_INVARIANT, "metric": DepthKind.DEPTH_METRIC_M}


def read(path: Path, kind: str | None = None, max_depth_m: float | None = None) -> Checkpoint:
    """Load any accepted checkpoint. Raises CheckpointError."""
    from datk.models.weights import load_checkpoint

    return load_checkpoint(path, depth_kind=KINDS[kind] if kind else None, max_depth_m=max_depth_m)


def licence_of_start(path: Path | None) -> str:
    """Licence of the weights a training starts from; random ones are datk's own. Raises CheckpointError."""
    from datk.models.weights import licence_of_file

    return "Apache-2.0" if path is None else licence_of_file(path)


def keep(checkpoint: Checkpoint, path: Path) -> Weights:
    """Write the weights as datk safetensors into a stage folder; returns the record for its manifest."""
    from datk.models.weights import save_checkpoint

    trained = {k: v for k, v in checkpoint.metadata.items() if k == TRAINED_SIZE}
    save_checkpoint(
        checkpoint.net,
        path,
        metadata=trained
        | {
            "source_sha256": checkpoint.sha256,
            "source_format": checkpoint.source_format,
            "licence": checkpoint.licence,
        },
    )
    return Weights(name=checkpoint.preset.name, sha256=checkpoint.sha256, licence=checkpoint.licence)


def trained_size(path: Path) -> Size | None:
    """(height, width) a datk checkpoint was trained at, from its header alone; None where the file does not tell."""
    from safetensors import SafetensorError, safe_open

    from datk.depth.preprocess import parse_size

    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(TRAINED_SIZE)
    except (SafetensorError, OSError):
        return None  # loading it says what is wrong
    return parse_size(text) if text else None
