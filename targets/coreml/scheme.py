"""What Core ML's int8 means here: W8A8 linears and convolutions, everything else in fp16."""

from __future__ import annotations

from datk.targets.pt2e import LinearConvQuantizer, QuantScheme


def scheme() -> QuantScheme:
    """int8 scheme for Core ML.

    Activations: signed, per tensor, with a zero point (MIL quantize takes one). Weights: signed,
    symmetric, per output channel, folded into the program so that the package stores one byte each.
    Only inputs and weights are quantised: Core ML fuses dequantize into the layer that reads it.
    """
    return QuantScheme(
        quantizer=LinearConvQuantizer(symmetric_activations=False, per_channel_weights=True, quantize_outputs=False),
        fold_quantize=True,
        smooth_quant=True,
        bias_correction="fast",
    )
