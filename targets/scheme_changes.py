"""A target's int8 scheme with a recipe's changes laid over it."""

from __future__ import annotations

from dataclasses import replace

from datk.config.schema import SchemeSection
from datk.errors import RecipeError
from datk.targets.pt2e import QuantScheme


def changed(scheme: QuantScheme, changes: SchemeSection | None) -> QuantScheme:
    """The scheme as the recipe wants it; the target's own object is left as it is.

    Raises RecipeError where the target's compiler cannot follow: SmoothQuant where its scheme has none.
    """
    if changes is None:
        return scheme
    alpha = changes.smooth_quant_alpha
    if alpha not in (None, "off") and not scheme.smooth_quant:
        raise RecipeError(
            "scheme.smooth_quant_alpha: this target's scheme runs without SmoothQuant",
            hint="leave smooth_quant_alpha out for this target",
        )
    return replace(
        scheme,
        quantizer=scheme.quantizer.narrowed(only=changes.only, float_layers=changes.float_layers),
        smooth_quant=scheme.smooth_quant and alpha != "off",
        smooth_quant_alpha=scheme.smooth_quant_alpha if alpha is None or alpha == "off" else alpha,
        bias_correction=changes.bias_correction or scheme.bias_correction,
        ranges=changes.ranges or scheme.ranges,
    )
