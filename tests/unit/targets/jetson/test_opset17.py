"""The graph for TensorRT 8.6: the same function in opset 17, and what cannot be said there refused by name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from datk.errors import TargetError
from datk.targets.jetson.opset17 import OPSET, in_opset_17

from .small_graph import H, W, run, small_graph

IMAGES = np.random.default_rng(1).integers(0, 256, (2, H, W, 3)).astype(np.uint8)


def test_the_function_and_the_tensors_names_stay() -> None:
    full = small_graph()
    before = full.SerializeToString()
    old = in_opset_17(full)
    assert full.SerializeToString() == before
    onnx.checker.check_model(old, full_check=True)
    assert [o.version for o in old.opset_import] == [OPSET] and old.ir_version == 8
    assert "Gelu" not in {n.op_type for n in old.graph.node}
    names = [v.name for v in full.graph.value_info]
    assert set(names) <= {v.name for v in old.graph.value_info}
    for a, b in zip(run(full, IMAGES, *names), run(old, IMAGES, *names), strict=True):
        for name in ("depth", *names):
            np.testing.assert_allclose(b[name], a[name], rtol=2e-6, atol=2e-6, err_msg=name)


def test_gelu_by_tanh_and_attributes_that_opset_17_lacks_are_refused() -> None:
    tanh = small_graph(blocks=1)
    gelu = next(n for n in tanh.graph.node if n.op_type == "Gelu")
    gelu.attribute.append(helper.make_attribute("approximate", "tanh"))
    with pytest.raises(TargetError, match=r"Gelu .* by tanh"):
        in_opset_17(tanh)
    resize = small_graph(blocks=1)
    node = next(n for n in resize.graph.node if n.op_type == "Relu")
    node.op_type = "Resize"
    node.attribute.append(helper.make_attribute("antialias", 1))
    with pytest.raises(TargetError, match=r"Resize .* antialias"):
        in_opset_17(resize)
    node.op_type = "GroupNormalization"
    with pytest.raises(TargetError, match="opset 17 has no GroupNormalization"):
        in_opset_17(resize)
