"""What LiteRT's GPU delegate takes, and what it leaves to the CPU.

Read from LiteRT's source (github.com/google-ai-edge/LiteRT): the operators from `NewOperationParser` in
tflite/delegates/gpu/common/model_builder.cc, their arguments from tflite/tools/versioning/gpu_compatibility.cc, ranks
and types from `IsAllAllowedTensors` in the former, how shapes are read from model_builder_helper.cc. The delegate
itself was not run here, and the analyzer in the ai-edge-litert 2.3.0 wheel calls every file compatible (tried with 5-D
tensors and RFFT2D), so it cannot stand in for this table.
"""

from __future__ import annotations

from datk.targets.op_lint import Rule

GPU = "LiteRT GPU delegate (OpenCL, OpenGL, Metal)"
_SOURCE = "google-ai-edge/LiteRT tflite/delegates/gpu/common/model_builder.cc"
_ARGUMENTS = "google-ai-edge/LiteRT tflite/tools/versioning/gpu_compatibility.cc"
_LEFT = "the delegate leaves it to the CPU, with a copy of its tensors each way"

_OPS = """
ABS ADD ADD_N AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D COS CUMSUM DENSIFY DEPTHWISE_CONV_2D
DEPTH_TO_SPACE DEQUANTIZE DIV EQUAL ELU EXP FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER
GREATER_EQUAL HARD_SWISH LESS LESS_EQUAL LOGISTIC LOG LOGICAL_AND LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD
MUL NEG NOT_EQUAL ONE_HOT PACK PAD PADV2 POW REDUCE_MAX REDUCE_MIN REDUCE_PROD QUANTIZE RELU RELU6 RELU_0_TO_1
RELU_N1_TO_1 LEAKY_RELU PRELU RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT SELECT_V2 SIGN SIN SLICE
SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE STRIDED_SLICE SUB SUM TANH TILE TRANSPOSE
TRANSPOSE_CONV UNPACK
"""
GPU_OPS = frozenset(_OPS.split())
"""What the delegate has a kernel for; each with limits of its own (`tflite-gpu-argument`)."""
REDUCTIONS = frozenset(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"))
BROADCASTS = frozenset(("ADD", "MUL"))
_MOVES = """
RESHAPE TRANSPOSE SLICE STRIDED_SLICE SPLIT SPLIT_V SQUEEZE EXPAND_DIMS CONCATENATION PAD DEQUANTIZE QUANTIZE CAST
GATHER PACK UNPACK RELU RELU6 SOFTMAX LOGISTIC TANH
"""
MOVES = frozenset(_MOVES.split())
"""Operators whose values cannot be larger than those they read, or than 1."""

CUSTOM = Rule(
    id="tflite-custom-op",
    device="every LiteRT runtime",
    why="it runs only where the app registers that operator; the plain interpreter refuses the file",
    rewrite="write it in LiteRT's built-in operators before converting",
    source="TensorFlow Lite schema, BuiltinOperator.CUSTOM",
    severity="error",
)
OP = Rule(
    id="tflite-gpu-op",
    device=GPU,
    why=f"not among the delegate's operators: {_LEFT}",
    rewrite="write it in operators the delegate has: a constant index as SLICE, BROADCAST_TO as the broadcast of ADD "
    "or MUL itself, a resize as RESIZE_BILINEAR or two matrix products (pass resize-by-matmul)",
    source=_SOURCE,
)
RANK = Rule(
    id="tflite-gpu-rank",
    device=GPU,
    why=f"a tensor of more than 4 dimensions: {_LEFT}",
    rewrite="slice q, k and v from the projection and multiply 4-D tensors (pass attention); drop a batch axis of 1",
    source=_SOURCE,
)
TYPE = Rule(
    id="tflite-gpu-type",
    device=GPU,
    why=f"computes neither floats nor 8-bit integers with a scale: {_LEFT}",
    rewrite="compute shapes and indices before converting, so that they are constants; compute in float32",
    source=_SOURCE,
)
EDGE = Rule(
    id="tflite-gpu-edge",
    device=GPU,
    why="the photograph's 8 bits become float on the CPU, one copy before the delegate takes the rest",
    rewrite="none needed: it is the first operator, so the graph is not split; the price of a uint8 image",
    source=_ARGUMENTS,
)
ARGUMENT = Rule(
    id="tflite-gpu-argument",
    device=GPU,
    why=f"the delegate has the operator, not with these arguments: {_LEFT}",
    rewrite="align_corners or half_pixel_centers, not both; slices of 3-D or 4-D tensors without masks; operands of "
    "one rank (options: {gpu: true}); softmax with beta 1; reductions over constant axes",
    source=_ARGUMENTS,
)
AXIS = Rule(
    id="tflite-gpu-axis",
    device=GPU,
    why="the delegate reads shapes as (batch, height, width, channels), one of 3 dimensions without height; here a "
    "reduction drops an axis and another takes its place, so it would compute another sum or refuse",
    rewrite="options: {gpu: true} keeps the reduced axis with length 1 (datk.targets.tflite.kept_axes)",
    source="google-ai-edge/LiteRT tflite/delegates/gpu/common/model_builder_helper.cc (ExtractTensorShape)",
)
HALF = Rule(
    id="tflite-fp16-range",
    device=f"{GPU} and other units that compute in float16",
    why="the value comes within a factor 4 of float16's largest, or beyond it, on photographs; CPUs compute in float32",
    rewrite="options: {gpu: true} scales deviations before LayerNorm squares them (pass safe-layer-norm); otherwise "
    "let the delegate compute in float32 (TfLiteGpuDelegateOptionsV2.is_precision_loss_allowed = 0)",
    source="LiteRT GPU delegate guide, reduced precision; 65504 / 4, measured with LiteRT on photographs",
)

RULES = (CUSTOM, OP, RANK, TYPE, EDGE, ARGUMENT, AXIS, HALF)
