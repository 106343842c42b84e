"""int8 for XNNPACK: int8 activations with a zero point, int8 weights per output channel, outputs quantised too.

ExecuTorch's partitioner takes a linear or convolution as an int8 one only where it finds data, weights and output
quantised; otherwise the layer runs in float on unpacked weights. Residual adds, LayerNorm, softmax, both attention
products, the patch embedding and the last head convolutions stay in float (datk.targets.pt2e); so do transposed
convolutions.
"""

from __future__ import annotations

from datk.targets.pt2e import LinearConvQuantizer, QuantScheme


def scheme() -> QuantScheme:
    """The QuantScheme that quantize_module is given for this target."""
    return QuantScheme(
        quantizer=LinearConvQuantizer(quantize_outputs=True),
        fold_quantize=True,
        smooth_quant=False,
        bias_correction="fast",
    )
