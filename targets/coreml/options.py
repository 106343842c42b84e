"""targets[].options of coreml."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """What a recipe may ask of a Core ML package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal["tokens", "neural-engine"] = "tokens"
    """neural-engine: the encoder carries (1, channels, 1, tokens), its linears are 1x1 convolutions."""

    def refuses(self, precision: str) -> str | None:
        """Why these options and that precision exclude each other; None when they do not."""
        if self.layout == "neural-engine" and precision == "int8":
            return "layout neural-engine is made of the float net, int8 of the program that was calibrated before"
        return None
