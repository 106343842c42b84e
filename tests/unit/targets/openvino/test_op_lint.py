"""Every rule on OpenVINO: an IR that trips it, and one beside it that does not."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from datk.depth.io_spec import DepthKind, contract_for
from datk.targets.op_lint import LintRequest, record
from datk.targets.openvino import op_rules as rules
from datk.targets.openvino.ir import save
from datk.targets.openvino.op_lint import findings, lint

openvino = pytest.importorskip("openvino", reason="openvino is not installed")
CONTRACT = contract_for(input_size=(4, 6), depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp32")


def model(shape, *, flow=False, factor=1.0):
    ops = importlib.import_module("openvino.opset13")
    image = ops.parameter(shape, dtype=np.uint8, name="image")
    image.output(0).get_tensor().set_names({"image"})
    x = ops.multiply(ops.convert(image, "f32"), np.float32(factor))
    if flow:
        inside = ops.parameter([1, 4, 6, 3], dtype=np.float32)
        body = openvino.Model([ops.relu(inside)], [inside])
        branch = ops.if_op(ops.constant(np.bool_(True)).output(0))
        for put in (branch.set_then_body, branch.set_else_body):
            put(body.clone())
        then, other = branch.get_function(0).get_parameters()[0], branch.get_function(1).get_parameters()[0]
        branch.set_input(x.output(0), then, other)
        x = branch.set_output(
            branch.get_function(0).get_results()[0], branch.get_function(1).get_results()[0]
        ).get_node()
    depth = ops.reduce_mean(x, np.array([3]), keep_dims=False)
    depth.output(0).get_tensor().set_names({"depth"})
    return openvino.Model([depth], [image], "tiny")


def test_a_side_that_is_no_number_is_found():
    assert {f.rule.id for f in findings(model([1, -1, 6, 3]))} == {rules.DYNAMIC.id}
    assert list(findings(model([1, 4, 6, 3]))) == []


def test_control_flow_is_found():
    assert [(f.rule.id, f.op) for f in findings(model([1, 4, 6, 3], flow=True))] == [(rules.FLOW.id, "If")]


def test_a_value_too_large_for_float16_is_found_by_running_the_ir(tmp_path):
    save(model([1, 4, 6, 3], factor=100.0), tmp_path / "model.openvino", CONTRACT, {}, half=False)

    def said(*photos):
        return lint(LintRequest(artifact=tmp_path / "model.openvino", contract=CONTRACT, photos=photos))

    assert said(np.full((4, 6, 3), 255, np.uint8)).findings[0].said == "reaches 2.55e+04"
    assert said(np.full((4, 6, 3), 100, np.uint8)).findings == ()
    assert record(said())["not_measured"] == {rules.HALF.id: "no photographs"}
