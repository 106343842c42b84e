"""targets[].options of tflite."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """What a recipe may ask of a .tflite file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: bool = False
    """Write LayerNorm so that float16 holds it, and reject a file of which a GPU delegate would refuse an operator."""
    output: Literal["float32", "int8"] = "float32"
    """int8: one byte a pixel, with scale and zero point in file and contract."""

    def refuses(self, precision: str) -> str | None:
        """Why these options and that precision exclude each other; None when they do not."""
        if self.output == "int8" and precision == "fp32":
            return (
                "fp32 is held to what 256 levels at the output cannot keep; output int8 goes with the other precisions"
            )
        if self.output == "int8" and self.gpu:
            return "option gpu leaves the photograph's cast alone to the CPU, output int8 would leave it a QUANTIZE too"
        return None
