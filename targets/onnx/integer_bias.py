"""Biases of quantised matrix products as int32: only then does ONNX Runtime compute those products in integers."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from datk.targets.onnx.graph import Edges, attribute, edges_of, read_input, values

LARGEST = 2**31 - 1


def int32_biases(graph: onnx.GraphProto) -> int:
    """Store the biases of products of dequantised data and a dequantised weight as int32; returns how many.

    MatMul + Add, and Gemm. ONNX Runtime fuses product and sum to a Gemm, and takes a Gemm for integer kernels (QGemm)
    when every input is dequantised; with a float bias it dequantises the weight and multiplies in float: slower than no
    int8 at all. A bias gets the scale of the sum it is added to, data scale times weight scale (int32 biases: Jacob et
    al. 2018, arXiv 1712.05877, section 2.4; the form that onnxruntime.quantization writes), so it moves by at most half
    a step of that sum. A bias beyond int32 in those steps stays as it is.
    """
    edges = edges_of(graph)
    made: list[tuple[onnx.NodeProto, onnx.NodeProto]] = []
    for node in graph.node:
        found = _bias_of(edges, node)
        if found is None:
            continue
        bias, scale = found
        steps = np.rint(values(edges.initializers[bias]).astype(np.float64) / scale)
        if not np.all(np.abs(steps) <= LARGEST):
            continue
        name = f"{node.name}/bias"
        graph.initializer.extend(
            [numpy_helper.from_array(steps.astype(np.int32), name), numpy_helper.from_array(scale, f"{name}_scale")]
        )
        axis = {"axis": 0} if scale.ndim else {}
        dequantize = helper.make_node(
            "DequantizeLinear", [name, f"{name}_scale"], [f"{name}_float"], name=f"{name}/DequantizeLinear", **axis
        )
        made.append((node, dequantize))
        read_input(node, bias, f"{name}_float")
    for node, dequantize in made:
        graph.node.insert(list(graph.node).index(node), dequantize)
    return len(made)


def _bias_of(edges: Edges, node: onnx.NodeProto) -> tuple[str, NDArray[np.float32]] | None:
    """(stored bias (out,), scale of the sum (out,) or ()) where node adds one to a quantised product; else None."""
    if node.op_type == "Gemm" and len(node.input) == 3:
        plain = attribute(node, "alpha", 1.0) == 1 and attribute(node, "beta", 1.0) == 1
        candidates = [(node, node.input[2])] if plain else []
    elif node.op_type == "Add":
        pairs = ((node.input[0], node.input[1]), (node.input[1], node.input[0]))
        products = [(edges.produced_by(name, "MatMul"), bias) for name, bias in pairs if edges.only_reader(name)]
        candidates = [(product, bias) for product, bias in products if product is not None]
    else:
        return None
    for product, bias in candidates:
        scale = _scale_of(edges, product)
        if scale is not None and bias in edges.initializers and len(edges.initializers[bias].dims) == 1:
            return bias, scale
    return None


def _scale_of(edges: Edges, product: onnx.NodeProto) -> NDArray[np.float32] | None:
    """Data scale times weight scale of a product with quantised data and a stored quantised weight, else None."""
    data, weight = (edges.produced_by(name, "DequantizeLinear") for name in product.input[:2])
    if data is None or weight is None or edges.produced_by(data.input[0], "QuantizeLinear") is None:
        return None
    if weight.input[0] not in edges.initializers:
        return None
    of_data, of_weight = (values(edges.initializers[node.input[1]]).astype(np.float64) for node in (data, weight))
    if of_data.size != 1:
        return None
    if of_weight.size > 1 and attribute(weight, "axis", 1) != (0 if attribute(product, "transB", 0) else 1):
        return None
    steps = of_weight.reshape(-1) if of_weight.size > 1 else of_weight.reshape(())
    return np.asarray(of_data.reshape(()) * steps, np.float32)
