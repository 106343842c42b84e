"""int8 for ONNX: asymmetric uint8 activations and symmetric int8 weights per output channel, of 7 bits.

The form every ONNX runtime has integer kernels for. On x86 without VNNI those kernels add two products of a uint8 and
an int8 in 16 bits: with weights up to 64 no sum can saturate, whatever the activations are. SmoothQuant and
FastBiasCorrection both work.
"""

from __future__ import annotations

from datk.targets.pt2e import LinearConvQuantizer, QuantScheme


def scheme() -> QuantScheme:
    """The QuantScheme that quantize_module is given for this target."""
    return QuantScheme(
        quantizer=LinearConvQuantizer(unsigned_activations=True),
        fold_quantize=True,
        smooth_quant=True,
        bias_correction="fast",
        halved_weights="all",
    )
