"""Would float16 overflow on the device? Every half tensor's range, measured in float32 on photographs.

ONNX Runtime on a CPU computes many float16 nodes in float32 and so hides overflow. Here the same graph
before its cast to half is run in float32, with Q/DQ on activations taken out (they would clip), and the
largest magnitude of every tensor that the shipped graph holds in float16 must stay below a quarter of
the largest half. A LayerNormalization that is one op accumulates in float32 and counts by its input and
output; a decomposed one has its squares in the graph and is measured with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from datk.targets.onnx.graph import edges_of, read_input, values
from datk.targets.onnx.half import half_tensors

LIMIT = 6.5e4 / 4
PHOTOS_NEEDED = 50
_REDUCTIONS = ("ReduceMax", "ReduceMin", "ReduceSumSquare")


def check_half_range(
    full: onnx.ModelProto, half: onnx.ModelProto, photos: Sequence[NDArray[np.uint8]]
) -> dict[str, Any]:
    """A check record for the fp16 range. full: the float32 graph half was made from.

    photos: bucket images (h, w, 3) uint8 RGB; fewer than 50 give not_measured with that reason.
    """
    figures: dict[str, Any] = {"limit": LIMIT, "n_photos": len(photos)}
    if len(photos) < PHOTOS_NEEDED:
        reason = f"{len(photos)} photographs given, at least {PHOTOS_NEEDED} needed"
        return {"status": "not_measured", "detail": reason, **figures}
    names = [name.removesuffix(".half") for name in half_tensors(half)]
    ranges = tensor_ranges(full, list(dict.fromkeys(names)), photos)
    ranges |= {
        i.name: float(np.abs(values(i).astype(np.float64)).max(initial=0.0))
        for i in half.graph.initializer
        if i.data_type == TensorProto.FLOAT16
    }
    worst = sorted(ranges, key=lambda name: -np.nan_to_num(ranges[name], nan=np.inf, posinf=np.inf))
    figures |= {
        "n_tensors": len(ranges),
        "largest": ranges[worst[0]] if np.isfinite(ranges[worst[0]]) else str(ranges[worst[0]]),
        "largest_tensor": worst[0],
    }
    beyond = [name for name in worst if not ranges[name] < LIMIT]
    if beyond:
        listed = ", ".join(f"{name} reaches {ranges[name]:g}" for name in beyond[:5])
        more = f" and {len(beyond) - 5} more" if len(beyond) > 5 else ""
        detail = f"{listed}{more}; float16 needs |x| < {LIMIT:g} (65504/4). Export with --precision fp32."
        return {"status": "failed", "detail": detail, **figures}
    detail = f"largest of {len(ranges)} half tensors: {worst[0]} at {ranges[worst[0]]:g}, limit {LIMIT:g}"
    return {"status": "passed", "detail": detail, **figures}


def tensor_ranges(full: onnx.ModelProto, names: Sequence[str], photos: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
    """Largest |value| of each named tensor over all photos in the float32 graph; nan or inf if it held one."""
    import onnxruntime as ort

    model = _with_reductions(full, names)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = [o.name for o in session.get_outputs()][1:]
    largest = np.zeros(len(names))
    image = model.graph.input[0].name
    for photo in photos:
        found = np.array(session.run(wanted, {image: photo[None]}), dtype=np.float64).reshape(len(names), 3)
        here = np.maximum(np.abs(found[:, 0]), np.abs(found[:, 1]))
        here[~np.isfinite(found).all(axis=1)] = np.nan
        largest = np.maximum(largest, here)  # nan stays nan
    return dict(zip(names, largest.tolist(), strict=True))


def _with_reductions(full: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The graph without Q/DQ on activations, with max, min and sum of squares of each tensor as outputs.

    The sum of squares is there because only it is sure to turn nan when the tensor holds one.
    """
    model = onnx.ModelProto.FromString(full.SerializeToString())
    graph = model.graph
    del graph.value_info[:]
    edges = edges_of(graph)
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        quantize = edges.produced_by(node.input[0], "QuantizeLinear")
        if quantize is not None:
            for reader in edges.readers.get(node.output[0], []):
                read_input(reader, node.output[0], quantize.input[0])
    for index, name in enumerate(names):
        for op_type in _REDUCTIONS:
            output = f"range_{index}_{op_type}"
            graph.node.append(helper.make_node(op_type, [name], [output], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
    return model
