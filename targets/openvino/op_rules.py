"""What OpenVINO's NPU refuses and where GPU and NPU overflow, from OpenVINO's documentation of its devices."""

from __future__ import annotations

from datk.targets.op_lint import Rule

NPU = "OpenVINO's NPU plugin"
CONTROL_FLOW = ("If", "Loop", "TensorIterator")
MOVES = frozenset(
    (
        *("Convert", "Concat", "Reshape", "Slice", "StridedSlice", "Split", "VariadicSplit", "Squeeze", "Unsqueeze"),
        *("Transpose", "FakeQuantize", "Relu", "Softmax", "Sigmoid", "Tanh", "Clamp"),
    )
)

DYNAMIC = Rule(
    id="openvino-dynamic-shape",
    device=NPU,
    why="a side that is not a number: the NPU compiles static shapes",
    rewrite="export one IR an input size (--input-size)",
    source="docs.openvino.ai, NPU device: limitations",
)
FLOW = Rule(
    id="openvino-control-flow",
    device=NPU,
    why="a loop or a condition: it runs elsewhere, or the model is refused",
    rewrite="export with constant shapes, so that conditions are decided before",
    source="docs.openvino.ai, supported operations by device",
)
HALF = Rule(
    id="openvino-fp16-range",
    device="OpenVINO's GPU and NPU plugins, whose default inference precision is f16; a CPU computes in float32",
    why="the value comes within a factor 4 of float16's largest, or beyond it, on photographs",
    rewrite="INFERENCE_PRECISION_HINT f32 in the app; or a LayerNorm in one piece (pass layer-norm)",
    source="docs.openvino.ai, precision control; 65504 / 4, measured with OpenVINO's CPU plugin on photographs",
)

RULES = (DYNAMIC, FLOW, HALF)
