"""A float32 graph as the exporter leaves one: 8-bit image, normalisation, three transformer blocks, a head, a map."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from datk.targets.onnx.export import OPSET, with_types

H, W, C = 8, 8, 8


def small_graph(blocks: int = 3, *, seed: int = 0) -> onnx.ModelProto:
    """uint8 (1, 8, 8, 3) -> float32 (1, 8, 8); tensors are named after what makes them: b0.fc1, b0.out, map."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(name: str, *shape: int) -> str:
        return constant(name, (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def node(op: str, inputs: list[str], output: str, layer: str, **attributes: object) -> str:
        name = f"net.{layer}/{op}_{len(nodes)}" if layer else f"datk/{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    x = node("Cast", ["image"], "image.float", "", to=TensorProto.FLOAT)
    x = node("Transpose", [x], "image.planes", "", perm=[0, 3, 1, 2])
    x = node("Mul", [x, constant("scale", np.float32(1 / 64))], "image.normal", "")
    x = node("Conv", [x, weight("stem.w", C, 3, 3, 3)], "stem", "stem", pads=[1, 1, 1, 1])
    x = node("Reshape", [x, constant("to_tokens", np.array([1, C, H * W]))], "tokens.turned", "stem")
    x = node("Transpose", [x], "tokens", "stem", perm=[0, 2, 1])
    ones, zeros = constant("ln.w", np.ones(C, np.float32)), constant("ln.b", np.zeros(C, np.float32))
    for i in range(blocks):
        b = f"b{i}"
        y = node("LayerNormalization", [x, ones, zeros], f"{b}.norm", f"blocks.{i}.norm", axis=-1, epsilon=1e-6)
        y = node("MatMul", [y, weight(f"{b}.w1", C, 4 * C)], f"{b}.fc1", f"blocks.{i}.fc1")
        y = node("Gelu", [y], f"{b}.gelu", f"blocks.{i}.act")
        y = node("MatMul", [y, weight(f"{b}.w2", 4 * C, C)], f"{b}.fc2", f"blocks.{i}.fc2")
        x = node("Add", [x, y], f"{b}.out", f"blocks.{i}")
    mean = node("ReduceMean", [x, constant("axis", np.array([1]))], "mean", "head.pool", keepdims=1)
    x = node("Sub", [x, mean], "centred", "head.pool")
    x = node("Transpose", [x], "planes.flat", "head", perm=[0, 2, 1])
    x = node("Reshape", [x, constant("to_planes", np.array([1, C, H, W]))], "planes", "head")
    x = node(
        "Conv", [x, weight("head.w", 1, C, 1, 1), constant("head.b", np.full(1, 4, np.float32))], "map", "head.out"
    )
    x = node("Relu", [x], "map.positive", "head.relu")
    node("Reshape", [x, constant("to_map", np.array([1, H, W]))], "depth", "head")
    graph = helper.make_graph(
        nodes,
        "datk",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, H, W, 3])],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, H, W])],
        constants,
    )
    return with_types(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10))


def run(model: onnx.ModelProto, images: np.ndarray, *also: str) -> list[dict[str, np.ndarray]]:
    """ONNX Runtime's answers, and further tensors by name, for each of (n, 8, 8, 3) uint8."""
    import onnxruntime as ort

    model = onnx.ModelProto.FromString(model.SerializeToString())
    types = {v.name: v for v in model.graph.value_info}
    model.graph.output.extend(types[name] for name in also)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return [dict(zip(names, session.run(None, {"image": i[None]}), strict=True)) for i in images]
