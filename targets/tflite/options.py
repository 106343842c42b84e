"""targets[].options of tflite."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """What a recipe may ask of a .tflite file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: bool = False
    """Write LayerNorm so that float16 holds it, and reject a file of which a GPU delegate would refuse an operator."""
