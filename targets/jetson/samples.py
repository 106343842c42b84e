"""layers.npz: a few values of every computed tensor of the float32 graph on one photograph, for a device to compare.

An engine's tensors cannot be looked at from outside; build_and_check.py --layers makes some of them outputs, builds
once more and holds them against these samples. A tensor is sampled at every `stride`-th of its values, row-major;
strides share no factor with the last axis, so that all channels take part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import gcd, prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from datk.artifact.files import atomic_path
from datk.targets.onnx.graph import edges_of

NAME = "layers.npz"
MOST_VALUES = 1024
"""Of one tensor."""
BUDGET = 150_000
"""Of all tensors: 600 kB in float32."""
FEWEST = 32
MOVES = frozenset(
    (
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Identity", "Cast", "Expand"),
        *("Gather", "Flatten", "QuantizeLinear", "DequantizeLinear"),
    )
)
"""Operators that move or round values: what they break shows at the next that computes."""
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Sampled:
    """One tensor of the graph and where it is sampled."""

    tensor: str
    layer: str
    """Module path of the torch net: pretrained.blocks.3.attn.proj."""
    op: str
    shape: tuple[int, ...]
    stride: int
    count: int
    reads: tuple[int, ...]
    """Places, in the list of all, of the sampled tensors it is computed from."""


def write_samples(full: onnx.ModelProto, shipped: onnx.ModelProto, image: NDArray[np.uint8], path: Path) -> None:
    """full: the float32 graph (with Q/DQ where the precision has them). shipped: what the device gets. image: bucket
    image (h, w, 3) uint8 RGB. Writes `index` (JSON as uint8) and `values` (float32, all samples one after another).
    """
    rows = sampled_tensors(full, shipped)
    index = json.dumps({"photograph": 0, "tensors": [vars(r) for r in rows]}, separators=(",", ":"))
    found = sample_values(full, rows, image)
    with atomic_path(path) as part:
        np.savez_compressed(
            part,
            index=np.frombuffer(index.encode(), np.uint8),
            values=np.concatenate([found[r.tensor] for r in rows]).astype(np.float32),
        )


def sampled_tensors(full: onnx.ModelProto, shipped: onnx.ModelProto) -> list[Sampled]:
    """Tensors that depend on the image, are computed and not just moved, and are in both graphs, in graph order.

    The map itself is the last, whatever makes it.
    """
    shapes = _shapes(full)
    there = _shapes(shipped)
    ends = {o.name for o in full.graph.output}

    def counts(node: onnx.NodeProto, name: str) -> bool:
        computed = node.op_type not in MOVES and name in shapes and there.get(name) == shapes[name]
        return name in ends or (computed and prod(shapes[name]) > 1)

    wanted = [(node, name) for node in full.graph.node for name in node.output[:1] if counts(node, name)]
    most = min(MOST_VALUES, max(FEWEST, BUDGET // max(1, len(wanted))))
    place: dict[str, int] = {}
    came_from: dict[str, frozenset[int]] = {i.name: frozenset() for i in full.graph.input}
    rows: list[Sampled] = []
    chosen = {name: node for node, name in wanted}
    for node in full.graph.node:
        inputs = [name for name in node.input if name in came_from]
        if not inputs:
            continue
        reads = frozenset(p for name in inputs for p in ({place[name]} if name in place else came_from[name]))
        for name in node.output:
            came_from[name] = reads
            if name in chosen:
                shape = shapes[name]
                stride = _stride(prod(shape), shape[-1], most)
                count = min(most, -(-prod(shape) // stride))
                place[name] = len(rows)
                rows.append(Sampled(name, _layer(node), node.op_type, shape, stride, count, tuple(sorted(reads))))
    return rows


def sample_values(
    full: onnx.ModelProto, rows: list[Sampled], image: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """Samples by tensor, of the float32 graph run by ONNX Runtime on one bucket image."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    model = _with_samples(full, rows)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [f"sample_{i}" for i in range(len(rows))]
    found = session.run(names, {full.graph.input[0].name: image[None]})
    return {r.tensor: np.asarray(v, np.float32) for r, v in zip(rows, found, strict=True)}


def _with_samples(full: onnx.ModelProto, rows: list[Sampled]) -> onnx.ModelProto:
    """The graph with every sample as a further output: only they leave it, so that memory stays one inference's."""
    model = onnx.ModelProto.FromString(full.SerializeToString())
    graph = model.graph
    del graph.value_info[:]

    def constant(name: str, value: list[int]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
        return name

    flat, axis = constant("sample_flat", [-1]), constant("sample_axis", [0])
    for index, row in enumerate(rows):
        last, step = [row.stride * (row.count - 1) + 1], [row.stride]
        ends, steps = constant(f"sample_{index}_end", last), constant(f"sample_{index}_step", step)
        line = f"sample_{index}_line"
        graph.node.append(helper.make_node("Reshape", [row.tensor, flat], [line]))
        graph.node.append(helper.make_node("Slice", [line, axis, ends, axis, steps], [f"sample_{index}"]))
        graph.output.append(helper.make_tensor_value_info(f"sample_{index}", TensorProto.FLOAT, [row.count]))
    return model


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Static shapes of float tensors."""
    made = edges_of(model.graph).producers
    out: dict[str, tuple[int, ...]] = {}
    for info in (*model.graph.value_info, *model.graph.output):
        kind: Any = info.type.tensor_type
        if info.name in made and kind.elem_type in _FLOATS:
            out[info.name] = tuple(d.dim_value for d in kind.shape.dim)
    return out


def _stride(size: int, last: int, most: int) -> int:
    """The largest step, at most size/most, that shares no factor with the last axis."""
    step = max(1, size // most)
    while gcd(step, last) > 1:
        step -= 1
    return step


def _layer(node: onnx.NodeProto) -> str:
    """`net.pretrained.blocks.0.attn.qkv/MatMul_17` is of pretrained.blocks.0.attn.qkv."""
    path = node.name.rsplit("/", 1)[0]
    return path.removeprefix("net.") or "(input)"
