"""targets[].options of coreml."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

OLDEST = ("iOS17", "macOS14")
"""Systems of specification 8, the oldest that this target is tested with."""
NEWER = ("iOS18", "macOS15")


class Options(BaseModel):
    """What a recipe may ask of a Core ML package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal["tokens", "neural-engine"] = "tokens"
    """neural-engine: the encoder carries (1, channels, 1, tokens), its linears are 1x1 convolutions."""

    deployment_target: str = OLDEST[0]
    """The oldest system the package is for: iOS17, macOS14, iOS18, macOS15."""

    @field_validator("deployment_target")
    @classmethod
    def _known(cls, value: str) -> str:
        if value in (*OLDEST, *NEWER):
            return value
        known = ", ".join((*OLDEST, *NEWER))
        system = value.rstrip("0123456789")
        least = next((name for name in OLDEST if name.rstrip("0123456789") == system), None)
        if least is not None and int(value.removeprefix(system) or 0) < int(least.removeprefix(system)):
            raise ValueError(f"{value} is too old: the package needs {least} or newer; one of {known}")
        raise ValueError(f"{value} is not one of {known}")

    def refuses(self, precision: str) -> str | None:
        """Why these options and that precision exclude each other; None when they do not."""
        if self.layout == "neural-engine" and precision == "int8":
            return "layout neural-engine is made of the float net, int8 of the program that was calibrated before"
        if self.deployment_target in NEWER and precision not in ("fp32", "fp16"):
            return f"{self.deployment_target} stores {precision} in a form not proven here; leave it at {OLDEST[0]}"
        return None
