"""int8 for OpenVINO: asymmetric uint8 activations and symmetric int8 weights per output channel.

The form Intel's integer kernels take as it is. SmoothQuant and FastBiasCorrection both work.
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
        halved_weights="first",  # for x86 without VNNI
    )
