"""int8 for LiteRT: int8 activations with a zero point, per-channel int8 weights, outputs quantised too.

LiteRT runs an operator in int8 only when its output is int8 as well; with inputs and weights alone it
silently keeps float weights and float kernels. Residual adds, LayerNorm, softmax, both attention
matmuls, the patch embedding and the last head convolutions stay in float (datk.targets.pt2e).
"""

from __future__ import annotations

from datk.targets.pt2e import FLOAT_LAYERS, LinearConvQuantizer, QuantScheme

COARSEST_SUM = r"(^|\.)refinenet4\.resConfUnit2\.conv2\."
"""The only residual add whose two operands and result would all be int8 neighbours: LiteRT's converter would
run that add in int8 too. One 3x3 convolution on the coarsest grid, left in float, keeps it in float."""


def scheme() -> QuantScheme:
    """The QuantScheme that quantize_module is given for this target.

    Transposed convolutions are not annotated: LiteRT's converter makes them int8 per channel by
    itself where both neighbours are int8, and falls back to float when they are annotated per tensor.
    """
    return QuantScheme(
        quantizer=LinearConvQuantizer(quantize_outputs=True, float_layers=(*FLOAT_LAYERS, COARSEST_SUM)),
        fold_quantize=False,
        smooth_quant=False,
        bias_correction="fast",
    )
