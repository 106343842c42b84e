"""Checkpoints as stages keep them: one safetensors file and the facts a manifest needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datk.artifact.manifest import Weights
from datk.depth.io_spec import DepthKind

if TYPE_CHECKING:
    from datk.models.weights import Checkpoint

KINDS = {"relative": DepthKind.DISPARITY_AFFINE_INVARIANT, "metric": DepthKind.DEPTH_METRIC_M}


def read(path: Path, kind: str | None = None, max_depth_m: float | None = None) -> Checkpoint:
    """Load any accepted checkpoint. Raises CheckpointError."""
    from datk.models.weights import load_checkpoint

    return load_checkpoint(path, depth_kind=KINDS[kind] if kind else None, max_depth_m=max_depth_m)


def keep(checkpoint: Checkpoint, path: Path) -> Weights:
    """Write the weights as datk safetensors into a stage folder; returns the record for its manifest."""
    from datk.models.weights import save_checkpoint

    save_checkpoint(
        checkpoint.net,
        path,
        metadata={
            "source_sha256": checkpoint.sha256,
            "source_format": checkpoint.source_format,
            "licence": checkpoint.licence,
        },
    )
    return Weights(name=checkpoint.preset.name, sha256=checkpoint.sha256, licence=checkpoint.licence)
