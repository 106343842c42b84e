"""The fp16 range check sees what ONNX Runtime's CPU kernels hide."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from datk.targets.jetson.half_range import LIMIT, check_half_range, tensor_ranges
from datk.targets.onnx.half import half_precision

H, W = 4, 6
PHOTOS = [np.full((H, W, 3), 10 + 4 * i, np.uint8) for i in range(50)]


def model(*middle, **constants):
    """uint8 image -> float -> 1x1 convolution (mean of RGB) `c` -> middle nodes -> `depth`."""
    given = {"kernel": np.full((1, 3, 1, 1), 1 / 3, np.float32), "axes": np.array([1]), **constants}
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["chw", "kernel"], ["c"]),
        *middle,
        helper.make_node("Squeeze", [middle[-1].output[0], "axes"], ["depth"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, H, W, 3])],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, [1, H, W])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in given.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return shape_inference.infer_shapes(made, check_type=True, strict_mode=True)


def check(full, photos=PHOTOS):
    return check_half_range(full, half_precision(full), photos)


def scaled(factor):
    return model(helper.make_node("Mul", ["c", "k"], ["scaled"]), k=np.float32(factor))


def test_tensors_within_a_quarter_of_half_pass_with_the_largest_named():
    record = check(scaled(10.0))
    assert record["status"] == "passed" and record["n_photos"] == 50
    assert record["largest"] == pytest.approx(10 * (10 + 4 * 49), rel=1e-3)
    assert record["largest_tensor"] == "scaled"


def test_a_tensor_beyond_the_limit_fails_by_name_though_half_could_hold_it():
    record = check(scaled(100.0))
    assert LIMIT < record["largest"] < 65504
    assert record["status"] == "failed" and "scaled reaches 20600" in record["detail"]
    assert "fp32" in record["detail"]


def test_one_bright_photograph_is_enough():
    assert check(scaled(80.0), [*PHOTOS[:49], np.zeros((H, W, 3), np.uint8)])["status"] == "passed"
    assert check(scaled(80.0), [*PHOTOS[:49], np.full((H, W, 3), 255, np.uint8)])["status"] == "failed"


def test_fewer_than_fifty_photographs_is_not_measured_with_the_reason():
    record = check(scaled(1.0), PHOTOS[:49])
    assert record["status"] == "not_measured" and "49 photographs given, at least 50" in record["detail"]


def test_a_decomposed_square_counts_and_a_single_layernorm_does_not():
    gain = {"gain": np.ones(W, np.float32)}
    whole = model(helper.make_node("LayerNormalization", ["c", "gain"], ["n"], axis=-1), **gain)
    assert check(whole)["status"] == "passed"
    squared = model(helper.make_node("Mul", ["c", "c"], ["square"]))
    record = check(squared)
    assert record["status"] == "failed" and record["largest_tensor"] == "square"


def test_a_weight_counts_too():
    record = check(model(helper.make_node("Min", ["c", "huge"], ["low"]), huge=np.float32(30000.0)))
    assert record["status"] == "failed" and "huge reaches 30000" in record["detail"]


def test_nan_and_infinity_fail():
    for bad in (np.nan, np.inf):
        full = model(helper.make_node("Relu", ["c"], ["r"]), kernel=np.full((1, 3, 1, 1), bad, np.float32))
        assert np.isnan(tensor_ranges(full, ["c"], PHOTOS[:1])["c"])
    poles = model(helper.make_node("Div", ["c", "zero"], ["pole"]), zero=np.float32(0))
    record = check(poles)
    assert record["status"] == "failed" and record["largest_tensor"] in ("pole", "depth")


def test_quantisation_does_not_clip_what_is_measured():
    """Q/DQ calibrated on 0..12.7 would hide a tensor that reaches 20600."""
    full = model(
        helper.make_node("Mul", ["c", "k"], ["scaled"]),
        helper.make_node("QuantizeLinear", ["scaled", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Neg", ["d"], ["negative"]),
        k=np.float32(100.0), s=np.float32(0.1), z=np.int8(0),
    )  # fmt: skip
    assert tensor_ranges(full, ["negative"], PHOTOS)["negative"] == pytest.approx(20600, rel=1e-3)


def test_the_normalised_image_stays_float32_and_is_not_counted():
    full = scaled(1.0)
    measured = check(full)["n_tensors"]
    assert measured == len({"chw", "c", "scaled", "depth", "kernel", "k"})
