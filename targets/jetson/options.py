"""targets[].options of jetson."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """What a recipe may ask of an export for Jetson."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tensorrt8: bool = True
    """Also write the float32 graph in opset 17, from which TensorRT 8.6 (JetPack 6.0) builds."""
