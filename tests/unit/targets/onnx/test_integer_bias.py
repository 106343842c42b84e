"""Quantised products with an int32 bias: the same function, and ONNX Runtime multiplies integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from datk.targets.onnx.graph import values
from datk.targets.onnx.integer_bias import LARGEST, int32_biases
from datk.targets.onnx.integer_kernels import check_kernels

N, IN, OUT = 24, 16, 8
STEP = 0.03


def layer(op, bias, *, seed=0, scales=None, swapped=False):
    """(1, N, IN) float -> Q/DQ uint8 -> product with an int8 weight + bias; MatMul and Add, or Gemm with transB."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-63, 64, (IN, OUT)).astype(np.int8)  # two products fit 16 bits: no x86 kernel saturates
    scales = np.asarray(scales if scales is not None else rng.uniform(1e-3, 2e-2, OUT), np.float32)
    shape, axis = ([1, N, IN], 1) if op == "MatMul" else ([N, IN], 0)
    arrays = {
        "s": np.float32(STEP),
        "z": np.uint8(117),
        "w": weight if op == "MatMul" else np.ascontiguousarray(weight.T),
        "ws": scales,
        "wz": np.zeros(scales.shape, np.int8),
        "b": np.asarray(bias, np.float32),
    }
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], name="fc/QuantizeLinear"),
        node("DequantizeLinear", ["q", "s", "z"], ["d"], name="fc/DequantizeLinear"),
        node("DequantizeLinear", ["w", "ws", "wz"], ["dw"], axis=axis, name="fc/weight"),
    ]
    if op == "MatMul":
        nodes += [
            node("MatMul", ["d", "dw"], ["m"], name="fc/MatMul"),
            node("Add", ["b", "m"] if swapped else ["m", "b"], ["y"], name="fc/Add"),
        ]
    else:
        nodes.append(node("Gemm", ["d", "dw", "b"], ["y"], transB=1, name="fc/Gemm"))
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*shape[:-1], OUT])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers(model, *, integers):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not integers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).normal(0, 1.5, shape).astype(np.float32)
    return ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
@given(seed=st.integers(0, 2**16), size=st.floats(1e-6, 1e3))
@settings(max_examples=15, deadline=None)
def test_answers_move_by_half_a_step_of_the_sum_at_most(op, swapped, seed, size):
    bias = np.random.default_rng(seed).normal(0, size, OUT)
    before = layer(op, bias, seed=seed, swapped=swapped)
    after = onnx.ModelProto.FromString(before.SerializeToString())
    assert int32_biases(after.graph) == 1
    onnx.checker.check_model(after, full_check=True)
    step = STEP * values(next(i for i in before.graph.initializer if i.name == "ws"))
    expected = answers(before, integers=False)
    room = 0.5 * step + 1e-5 * np.abs(expected).max()
    assert np.all(np.abs(answers(after, integers=False) - expected) <= room)
    assert np.all(np.abs(answers(after, integers=True) - expected) <= room), "integer kernels"


@pytest.mark.parametrize("scales", [None, 0.01], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_only_with_an_int32_bias_does_onnx_runtime_multiply_integers(op, scales, tmp_path):
    model, path = layer(op, np.linspace(-1, 1, OUT), scales=scales), tmp_path / "model.onnx"
    onnx.save(model, path)
    said = check_kernels(path, {op: 1})
    assert said["status"] == "failed" and "0 of 1 matrix products" in said["detail"]

    assert int32_biases(model.graph) == 1
    onnx.save(model, path)
    said = check_kernels(path, {op: 1})
    assert said["status"] == "passed" and said["integer_products"] == 1


def test_a_bias_beyond_int32_stays_as_it_is():
    model = layer("MatMul", [*np.zeros(OUT - 1), 2.0 * LARGEST * STEP * 1e-3], scales=np.full(OUT, 1e-3))
    before = model.SerializeToString()
    assert int32_biases(model.graph) == 0
    assert model.SerializeToString() == before


def test_what_is_not_the_bias_of_a_quantised_product_is_left_alone():
    """A residual sum behind a product, and a product whose data is float."""
    residual = layer("MatMul", np.ones(OUT))
    residual.graph.node[-1].input[1] = "other"
    residual.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, N, OUT]))
    floating = layer("MatMul", np.ones(OUT))
    floating.graph.node[-2].input[0] = "x"
    for model in (residual, floating):
        before = model.SerializeToString()
        assert int32_biases(model.graph) == 0
        assert model.SerializeToString() == before
