"""int8 for TensorRT: symmetric int8 activations with zero point 0, int8 weights per output channel.

TensorRT's parser refuses any other zero point. Q/DQ stands on inputs and weights only: the builder
fuses it into the layer, and a quantised output would cost a conversion. SmoothQuant and
FastBiasCorrection both work; the second sees the ranges before they are made symmetric.
"""

from __future__ import annotations

from datk.targets.pt2e import LinearConvQuantizer, QuantScheme


def scheme() -> QuantScheme:
    """The QuantScheme that quantize_module is given for this target."""
    return QuantScheme(
        quantizer=LinearConvQuantizer(symmetric_activations=True),
        fold_quantize=True,
        smooth_quant=True,
        bias_correction="fast",
    )
