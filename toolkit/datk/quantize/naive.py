"""The int8 that default recipes make: every operation quantised, no SmoothQuant. Kept to be measured against.

edge-device reports of 0-5 % top-1 come from this recipe (quantised residual adds above all); datk ships none of it.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from datk.targets.chatter import sdk_chatter_off
from datk.targets.pt2e import LinearConvQuantizer, QuantScheme

with sdk_chatter_off():
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

_ATEN = torch.ops.aten
FRAGILE = {
    "add": (_ATEN.add.Tensor, _ATEN.add_.Tensor),
    "multiply": (_ATEN.mul.Tensor,),
    "layer norm": (_ATEN.layer_norm.default,),
    "softmax": (_ATEN.softmax.int,),
    "attention matmul": (_ATEN.matmul.default,),
    "gelu": (_ATEN.gelu.default,),
}
"""What must stay in float on DINOv2 and DPT, by the name this package gives it."""


class NaiveQuantizer(LinearConvQuantizer):
    """Linears and convolutions, patch embedding and last head convolutions included, and the result of fragile ops.

    fragile: which of FRAGILE; all by default. Every activation is asymmetric int8 per tensor.
    """

    def __init__(self, fragile: tuple[str, ...] = tuple(FRAGILE), *, float_layers: tuple[str, ...] = ()) -> None:
        super().__init__(quantize_outputs=True, float_layers=float_layers)
        self._fragile = {op for name in fragile for op in FRAGILE[name]}

    def annotate(self, model: GraphModule) -> GraphModule:
        """Write a QuantizationAnnotation on every selected node of an exported program."""
        super().annotate(model)
        for node in model.graph.nodes:
            if node.op == "call_function" and node.target in self._fragile and _is_float_map(node):
                node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(output_qspec=self._activation, _annotated=True)
        return model


def naive_scheme() -> QuantScheme:
    """Everything in int8, no SmoothQuant, NNCF's fast bias correction: what `--int8` means elsewhere."""
    return QuantScheme(quantizer=NaiveQuantizer(), fold_quantize=True, smooth_quant=False)


def _is_float_map(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim >= 3
