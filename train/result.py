"""What a training stage hands on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datk.train.loop import FitResult


@dataclass(frozen=True)
class TrainResult:
    """weights: safetensors with official key names. facts: what was chosen or found, for the manifest."""

    weights: Path
    weights_sha256: str
    fit: FitResult
    facts: dict[str, Any] = field(default_factory=dict)
