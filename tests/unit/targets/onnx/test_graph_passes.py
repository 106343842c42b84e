"""ONNX passes keep the function; the fp16 and int8 forms are what they claim to be."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from datk.errors import TargetError
from datk.targets.onnx.graph import edges_of, values, weight_layers
from datk.targets.onnx.half import SMALLEST_SCALE, half_precision, half_tensors
from datk.targets.onnx.int8 import check_int8
from datk.targets.onnx.passes import cast_before_transpose, transpose_stored_weights
from datk.targets.onnx.weights import check_weights, int8_weights, per_channel

H, W = 6, 4
rng = np.random.default_rng(0)


def constant(name, array):
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def model_of(nodes, constants, output=("depth", [1, H, W])):
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, H, W, 3])],
        [helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)


def toy(*, scale=0.02, weight=1.0, zero_point=0):
    """uint8 image -> normalise -> Conv -> Q/DQ -> MatMul with an int8 weight -> LayerNormalization -> depth."""
    node = helper.make_node
    matrix = rng.integers(-127, 128, (W, W)).astype(np.int8)
    constants = [
        constant("mean", np.float32(120)),
        constant("kernel", np.full((1, 3, 1, 1), weight, np.float32)),
        constant("s", np.float32(scale)),
        constant("z", np.int8(zero_point)),
        constant("matrix", matrix),
        constant("ws", np.full(W, 0.01, np.float32)),
        constant("wz", np.zeros(W, np.int8)),
        constant("gain", np.ones(W, np.float32)),
        constant("axes", np.array([1])),
    ]
    stored = node("DequantizeLinear", ["matrix", "ws", "wz"], ["wd"], axis=0, name="dq_w")
    nodes = [
        node("Transpose", ["image"], ["chw"], perm=[0, 3, 1, 2]),
        node("Cast", ["chw"], ["f"], to=TensorProto.FLOAT),
        node("Sub", ["f", "mean"], ["n"]),
        node("Conv", ["n", "kernel"], ["c"], name="patch/Conv"),
        node("QuantizeLinear", ["c", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        stored,
        node("Transpose", ["wd"], ["wt"], perm=[1, 0]),
        node("MatMul", ["d", "wt"], ["m"], name="qkv/MatMul"),
        node("LayerNormalization", ["m", "gain"], ["ln"], axis=-1),
        node("Squeeze", ["ln", "axes"], ["depth"]),
    ]
    return model_of(nodes, constants)


def run(model, image):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(model.SerializeToString(), options).run(None, {"image": image})[0]


@pytest.fixture
def image():
    return rng.integers(0, 256, (1, H, W, 3)).astype(np.uint8)


def test_cast_comes_before_transpose_and_nothing_else_changes(image):
    model = toy()
    before = run(model, image)
    cast_before_transpose(model.graph)
    assert [n.op_type for n in model.graph.node][:2] == ["Cast", "Transpose"]
    np.testing.assert_array_equal(run(onnx.shape_inference.infer_shapes(_untyped(model)), image), before)


def _untyped(model):
    del model.graph.value_info[:]
    return model


def test_int8_matrix_is_stored_as_matmul_reads_it(image):
    model = toy()
    before = run(model, image)
    assert transpose_stored_weights(model.graph) == 1
    edges = edges_of(model.graph)
    (dequantize,) = [n for n in model.graph.node if n.name == "dq_w"]
    assert edges.only_reader(dequantize.output[0]).op_type == "MatMul"
    np.testing.assert_allclose(run(_untyped(model), image), before, rtol=1e-5, atol=1e-5)


def test_half_precision_follows_float_and_types_every_tensor(image):
    model = toy()
    half = half_precision(model)
    assert np.abs(run(half, image) - run(model, image)).max() < 0.02
    types = {v.name: v.type.tensor_type.elem_type for v in half.graph.value_info}
    assert {types[n] for n in ("c", "d", "m", "ln")} == {TensorProto.FLOAT16}
    assert {types[n] for n in ("f", "n")} == {TensorProto.FLOAT}
    assert half.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert set(half_tensors(half)) >= {"c", "d", "m", "ln"} and "n" not in half_tensors(half)


def int8_stem():
    """uint8 image -> normalise -> Q/DQ -> Conv with an int8 kernel -> ReLU -> depth: a convolutional net's stem."""
    node = helper.make_node
    constants = [
        constant("mean", np.float32(120)),
        constant("s", np.float32(1.1)),
        constant("z", np.int8(0)),
        constant("kernel", rng.integers(-127, 128, (2, 3, 1, 1)).astype(np.int8)),
        constant("ws", np.array([0.01, 0.02], np.float32)),
        constant("wz", np.zeros(2, np.int8)),
        constant("axes", np.array([1])),
    ]
    nodes = [
        node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        node("Transpose", ["f"], ["chw"], perm=[0, 3, 1, 2]),
        node("Sub", ["chw", "mean"], ["n"]),
        node("QuantizeLinear", ["n", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["kernel", "ws", "wz"], ["wd"], axis=0),
        node("Conv", ["d", "wd"], ["c"], name="stem/Conv"),
        node("Relu", ["c"], ["r"]),
        node("ReduceMean", ["r", "axes"], ["depth"], keepdims=0),
    ]
    return model_of(nodes, constants)


def test_a_quantised_first_convolution_stays_int8_in_half_precision(image):
    """No cast between its Q/DQ and the convolution: what a compiler fuses is the three side by side."""
    model = int8_stem()
    half = half_precision(model)
    onnx.checker.check_model(half, full_check=True)
    record = check_int8(half, ["stem"], symmetric=True)
    assert record["status"] == "passed" and record["int8_ops"] == {"Conv": 1}, record["detail"]
    types = {v.name: v.type.tensor_type.elem_type for v in half.graph.value_info}
    assert types["n"] == TensorProto.FLOAT and {types[n] for n in ("d", "c")} == {TensorProto.FLOAT16}
    before = run(model, image)
    assert np.abs(run(half, image) - before).max() < 0.02 * np.abs(before).max()


def test_scale_too_small_for_half_is_raised_and_its_weight_requantised():
    model = toy()
    (scales,) = [i for i in model.graph.initializer if i.name == "ws"]
    old = np.array([1e-2, 3e-5, 1e-2, 1e-9], np.float32)
    scales.CopyFrom(constant("ws", old))
    half = half_precision(model)
    stored = edges_of(half.graph).initializers
    new = values(stored["ws"])
    assert new.dtype == np.float16 and new.min() >= SMALLEST_SCALE
    before = values(edges_of(model.graph).initializers["matrix"]).astype(float) * old[:, None]
    after = values(stored["matrix"]).astype(float) * new.astype(float)[:, None]
    assert np.abs(before - after).max() <= 1e-2 * 127 * 2**-10


def test_weight_beyond_half_is_refused_by_name():
    with pytest.raises(TargetError, match="'kernel' reaches 70000"):
        half_precision(toy(weight=70000.0))


def test_attention_products_are_not_weight_layers():
    model = toy()
    model.graph.node.append(helper.make_node("MatMul", ["m", "m"], ["qk"], name="qk"))
    assert [n.name for n, _, _ in weight_layers(model.graph)] == ["patch/Conv", "qkv/MatMul"]


def test_int8_check_counts_layers_in_the_file():
    record = check_int8(toy(), ["qkv"], symmetric=True)
    assert record["status"] == "passed"
    assert (record["meant"], record["int8_weight_bytes"]) == (1, W * W + W + 1)
    assert (record["int8_ops"], record["float_ops"]) == ({"MatMul": 1}, {"Conv": 1})


@pytest.mark.parametrize(
    ("model", "expected", "why"),
    [
        (lambda: toy(), ["qkv", "proj"], "1 of 2 layers meant for int8 are stored or run in float: proj"),
        (lambda: toy(), [], "1 layers run in int8, the scheme selected 0"),
        (lambda: toy(zero_point=-127), ["qkv"], "2 zero points are not 0: q (-127), d (-127)"),
        (lambda: _residual_add(), ["qkv"], "1 operations must stay in float but touch int8: residual/Add"),
        (lambda: _coarse_weight(), ["qkv"], "1 layers have one scale for all output channels: qkv/MatMul"),
        (lambda: _float_weight(), ["qkv"], "weight stored as float, quantised at run time"),
        (lambda: _float_data(), ["qkv"], "weight stored as int8, data read as float"),
    ],
)
def test_int8_check_fails_on_a_layer_that_is_not_int8(model, expected, why):
    record = check_int8(model(), expected, symmetric=True)
    assert record["status"] == "failed" and why in record["detail"]


def _large(channels=64):
    """uint8 image -> Conv with 64 channels of 3x5x5 -> MatMul, so that weights are worth compressing."""
    node = helper.make_node
    gains = rng.uniform(0.1, 9, (channels, 1, 1, 1))
    constants = [
        constant("kernel", (rng.normal(0, 1, (channels, 3, 5, 5)) * gains).astype(np.float32)),
        constant("matrix", rng.normal(0, 1, (W, W)).astype(np.float32)),
        constant("axes", np.array([1])),
    ]
    nodes = [
        node("Transpose", ["image"], ["chw"], perm=[0, 3, 1, 2]),
        node("Cast", ["chw"], ["f"], to=TensorProto.FLOAT),
        node("Conv", ["f", "kernel"], ["c"], name="conv/Conv", pads=[2, 2, 2, 2]),
        node("ReduceMean", ["c", "axes"], ["m"], keepdims=0),
        node("MatMul", ["m", "matrix"], ["depth"], name="last/MatMul"),
    ]
    return model_of(nodes, constants)


def test_int8_weights_follow_float_within_half_a_step_and_take_a_quarter(image):
    model = _large()
    before = run(model, image)
    compressed = int8_weights(onnx.ModelProto.FromString(model.SerializeToString()))
    onnx.checker.check_model(compressed, full_check=True)
    found = run(compressed, image)
    assert np.corrcoef(found.ravel(), before.ravel())[0, 1] > 0.999
    record = check_weights(compressed)
    assert record["status"] == "passed" and record["stored"] == {"float": 1, "int8": 1}
    assert record["int8_weight_bytes"] == 64 * 75 + 64
    weight = values(edges_of(model.graph).initializers["kernel"])
    integers, scales = per_channel(weight, 0)
    assert (np.abs(integers * scales[:, None, None, None] - weight) <= scales[:, None, None, None] / 2 * 1.001).all()


def test_check_names_a_large_weight_left_in_float():
    assert "conv/Conv: a large weight is stored as float" in check_weights(_large())["detail"]


def _residual_add():
    """The dequantised activation also feeds an addition."""
    model = toy()
    (product,) = [n for n in model.graph.node if n.name == "qkv/MatMul"]
    add = helper.make_node("Add", [product.output[0], product.input[0]], ["sum"], name="residual/Add")
    for node in model.graph.node:
        if node is not product and product.output[0] in node.input:
            node.input[list(node.input).index(product.output[0])] = "sum"
    model.graph.node.insert(list(model.graph.node).index(product) + 1, add)
    return model


def _coarse_weight():
    model = toy()
    for initializer in model.graph.initializer:
        if initializer.name == "ws":
            initializer.CopyFrom(constant("ws", np.float32(0.01)))
        if initializer.name == "wz":
            initializer.CopyFrom(constant("wz", np.int8(0)))
    return model


def _float_weight():
    """Fake quantisation: a float matrix, quantised and dequantised at run time."""
    model = toy()
    (matrix,) = [i for i in model.graph.initializer if i.name == "matrix"]
    matrix.CopyFrom(constant("matrix", rng.normal(0, 1, (W, W)).astype(np.float32)))
    index = [n.name for n in model.graph.node].index("dq_w")
    model.graph.node[index].input[0] = "qw"
    model.graph.node.insert(index, helper.make_node("QuantizeLinear", ["matrix", "ws", "wz"], ["qw"], axis=0))
    return model


def _float_data():
    model = toy()
    (product,) = [n for n in model.graph.node if n.name == "qkv/MatMul"]
    product.input[0] = "c"
    return model
