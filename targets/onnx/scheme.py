"""int8 for ONNX: asymmetric uint8 activations and symmetric int8 weights per output channel.

The form every ONNX runtime has integer kernels for. SmoothQuant and FastBiasCorrection both work.
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
        halve_first_convolutions=True,  # for x86 without VNNI
    )
