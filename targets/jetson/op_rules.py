"""What TensorRT's ONNX parser refuses, and patterns it builds wrongly or slowly.

Operators: asked of NVIDIA's own parser, `OnnxParser.supports_operator` of TensorRT-RTX 1.7.1, for every operator ONNX
has; onnx-tensorrt's docs/operators.md says the same of TensorRT 8.4 to 10 where both have a word. Patterns: reports in
NVIDIA's issue tracker, named with each rule.
"""

from __future__ import annotations

from datk.targets.op_lint import Rule

DEVICE = "TensorRT"
_MATRIX = "onnx-tensorrt, docs/operators.md"
_REFUSED = """
AffineGrid Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im Compress
ConcatFromSequence ConvInteger CumProd DFT DeformConv Det DynamicQuantizeLinear ImageDecoder MatMulInteger MaxRoiPool
MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement OptionalHasElement
QLinearConv QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert
SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit SwiGLU
TfIdfVectorizer Unique
"""
REFUSED = frozenset(_REFUSED.split())
MOST_DIMENSIONS = 8

OP = Rule(
    id="trt-op",
    device=DEVICE,
    why="the parser has no such operator: no engine is built",
    rewrite="write it in supported operators; integer products (QLinear..., ...Integer) as QuantizeLinear and "
    "DequantizeLinear around float ones",
    source="OnnxParser.supports_operator of TensorRT-RTX 1.7.1",
    severity="error",
)
FOREIGN = Rule(
    id="trt-foreign-op",
    device=DEVICE,
    why="not an operator of ONNX: it needs a plugin that this export does not bring",
    rewrite="export without fusing into a runtime's own operators",
    source=_MATRIX,
    severity="error",
)
ZERO_POINT = Rule(
    id="trt-zero-point",
    device=DEVICE,
    why="a zero point other than 0: the parser refuses it",
    rewrite="symmetric ranges; an unsigned range gets zero point 0 and twice the scale",
    source=f"{_MATRIX}: QuantizeLinear, DequantizeLinear; onnxruntime#14626",
    severity="error",
)
ANTIALIAS = Rule(
    id="trt-resize-antialias",
    device=DEVICE,
    why="Resize with antialias or of another mode than nearest, linear and cubic: the parser refuses it",
    rewrite="resize without antialias, or as two constant matrix products (pass resize-by-matmul)",
    source=f"{_MATRIX}: Resize",
    severity="error",
)
CUBIC = Rule(
    id="trt-resize-cubic",
    device=DEVICE,
    why="bicubic resizing came out differently from torch's",
    rewrite="make the resized position embedding a constant of the input size (pass position)",
    source="pytorch/TensorRT#3429",
)
DYNAMIC = Rule(
    id="trt-dynamic-shape",
    device=DEVICE,
    why="a side that is not a number needs an optimisation profile, which the build script sets none of",
    rewrite="export one file an input size (--input-size)",
    source="TensorRT documentation, Working with dynamic shapes",
    severity="error",
)
RANK = Rule(
    id="trt-rank",
    device=DEVICE,
    why=f"a tensor of more than {MOST_DIMENSIONS} dimensions, the most that TensorRT has",
    rewrite="multiply 4-D tensors (pass attention)",
    source="TensorRT API, Dims::MAX_DIMS",
    severity="error",
)
EINSUM = Rule(
    id="trt-einsum",
    device="TensorRT 8.6",
    why="cannot compile the einsum form of this attention",
    rewrite="matmul, softmax, matmul on 4-D tensors (pass attention)",
    source="reported for TensorRT 8.6 with DINOv2",
)
LAYER_NORM = Rule(
    id="trt-layernorm-decomposed",
    device=DEVICE,
    why="squares of a LayerNorm written out in float16 overflow: a ViT-B fell from 85 to 19 % top-1 on an Orin Nano",
    rewrite="one LayerNormalization operator, opset 17 or newer (pass layer-norm): its sums are float32",
    source="NVIDIA/TensorRT#2564, #4111, #3101; onnxsim#1742",
)
DOUBLE = Rule(
    id="trt-float64",
    device=DEVICE,
    why="float64 is cast down to float32, or refused",
    rewrite="compute in float32 before exporting",
    source=f"{_MATRIX}: types",
)
ENCODER = Rule(
    id="trt-int8-encoder",
    device=f"{DEVICE} with fused attention",
    why="Q/DQ around a transformer's linears can break the fused float16 block: int8 came out no faster, or slower",
    rewrite="int8 in the decoder's convolutions alone: targets[].scheme, or `datk quantize --target T --search`",
    source="NVIDIA/TensorRT#4348, NVIDIA/Model-Optimizer#167; reported on an RTX 3080 Ti (2.95 against 2.77 ms)",
)
HALF = Rule(
    id="trt-fp16-range",
    device=DEVICE,
    why="the value comes within a factor 4 of float16's largest, or beyond it, on photographs",
    rewrite="--precision fp32; a LayerNorm written out piece by piece: pass layer-norm or safe-layer-norm",
    source="65504 / 4, measured in float32 on photographs: the check fp16-range",
    severity="error",
)

RULES = (OP, FOREIGN, ZERO_POINT, ANTIALIAS, CUBIC, DYNAMIC, RANK, EINSUM, LAYER_NORM, DOUBLE, ENCODER, HALF)
