"""What keeps operations of an ML program off Apple's Neural Engine, and what Core ML itself refuses.

Apple publishes principles, no list. Principles: "Deploying Transformers on the Apple Neural Engine" (Apple Machine
Learning Research, 2022) and coremltools' guide to typed execution and to quantisation. Operations: observed by others,
"Which Core ML layers are not supported by the ANE?" (github.com/hollance/neural-engine). Core ML decides where an
operation runs, by cost too; nothing here was run on an Apple device.
"""

from __future__ import annotations

from datk.targets.op_lint import Rule

ENGINE = "Apple's Neural Engine"
_PRINCIPLES = "Apple Machine Learning Research, Deploying Transformers on the Apple Neural Engine, principle 1"
_OBSERVED = "github.com/hollance/neural-engine, docs/unsupported-layers.md (observed, not Apple's word)"

OFF_ENGINE = frozenset(
    (
        *("gather", "gather_nd", "gather_along_axis", "lstm", "gru", "rnn", "while_loop", "cond"),
        *("non_zero", "non_maximum_suppression", "custom_layer"),
    )
)
LAYOUT_OPS = ("linear", "layer_norm")
"""Of tokens: (1, tokens, channels) where the engine wants (1, channels, 1, tokens)."""
MOVES = frozenset(
    (
        *("cast", "concat", "dequantize", "quantize", "reshape", "slice_by_index", "split", "squeeze", "transpose"),
        *("expand_dims", "relu", "softmax", "constexpr_affine_dequantize", "constexpr_lut_to_dense"),
    )
)

RANK = Rule(
    id="coreml-rank",
    device="Core ML on every unit",
    why="a tensor of more than 5 dimensions: Core ML has none",
    rewrite="slice q, k and v from the projection and multiply 4-D tensors (pass attention)",
    source="coremltools, ML program specification: tensors of rank 0 to 5",
    severity="error",
)
OP = Rule(
    id="coreml-ane-op",
    device=ENGINE,
    why="not known to run there: Core ML hands it and its neighbours to the GPU or CPU, with a copy each way",
    rewrite="make its indices constant and write it as a slice or a matrix product; unroll loops before converting",
    source=_OBSERVED,
)
DILATED = Rule(
    id="coreml-ane-dilation",
    device=ENGINE,
    why="dilated convolutions are not known to run there",
    rewrite="use a convolution without dilation, or one on a grid that is taken apart first (space to depth)",
    source=_OBSERVED,
)
FIVE = Rule(
    id="coreml-ane-rank",
    device=ENGINE,
    why="a 5-D tensor: the engine's layout is 4-D, (batch, channels, height, width)",
    rewrite="multiply 4-D tensors, heads as batch or one at a time (pass attention)",
    source=_PRINCIPLES,
)
LAYOUT = Rule(
    id="coreml-ane-layout",
    device=ENGINE,
    why="tokens lie as (1, tokens, channels): the engine wants 4-D with channels second, and copies to get it",
    rewrite="options: {layout: neural-engine} carries tokens as (1, channels, 1, tokens), linears as 1x1 convolutions",
    source=_PRINCIPLES,
)
SINGLE = Rule(
    id="coreml-ane-float32",
    device=ENGINE,
    why="computes in float32, which the engine does not: it runs on the GPU or CPU",
    rewrite="--precision fp16",
    source="coremltools guide, Typed execution: the Neural Engine computes in float16",
)
W8A8 = Rule(
    id="coreml-ane-w8a8",
    device=f"{ENGINE} before A17 Pro and M4, GPUs and CPUs",
    why="int8 activations gain speed from A17 Pro and M4 on; elsewhere quantising and back costs time",
    rewrite="--precision int8-weights or lut8 for older devices: as small, computed in float16",
    source="coremltools guide, Quantization overview: W8A8 on the Neural Engine",
)
HALF = Rule(
    id="coreml-fp16-range",
    device="every unit that computes in float16",
    why="the value comes within a factor 4 of float16's largest, or beyond it, on photographs",
    rewrite="--precision fp32; a LayerNorm written out piece by piece: pass layer-norm or safe-layer-norm",
    source="65504 / 4, measured with datk's evaluator on photographs",
)

RULES = (RANK, OP, DILATED, FIVE, LAYOUT, SINGLE, W8A8, HALF)
