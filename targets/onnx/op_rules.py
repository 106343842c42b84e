"""What narrows the choice of ONNX Runtime's execution providers, from its documentation (onnxruntime.ai)."""

from __future__ import annotations

from datk.targets.op_lint import Rule

PROVIDERS = "ONNX Runtime's providers for phones (NNAPI, Core ML, QNN, XNNPACK)"
CONTROL_FLOW = ("If", "Loop", "Scan")
MOST_DIMENSIONS = 5

FOREIGN = Rule(
    id="onnx-foreign-domain",
    device="every runtime but the one that brings this domain",
    why="the operator is not ONNX's own: other runtimes and converters refuse the file",
    rewrite="export without fusing into com.microsoft operators; leave fusing to the session",
    source="ONNX specification, operator sets and domains",
)
DYNAMIC = Rule(
    id="onnx-dynamic-shape",
    device=PROVIDERS,
    why="a side that is not a number: providers that compile ahead leave what depends on it to the CPU",
    rewrite="export one file an input size (--input-size)",
    source="onnxruntime.ai, Mobile: make dynamic input shape fixed",
)
FLOW = Rule(
    id="onnx-control-flow",
    device=PROVIDERS,
    why="a subgraph: it runs on the CPU and splits the graph",
    rewrite="export with constant shapes, so that conditions are decided before",
    source="onnxruntime.ai, Core ML and NNAPI execution providers: supported operators",
)
RANK = Rule(
    id="onnx-rank",
    device=PROVIDERS,
    why=f"a tensor of more than {MOST_DIMENSIONS} dimensions: phones' compilers take fewer",
    rewrite="slice q, k and v from the projection and multiply 4-D tensors (pass attention)",
    source="onnxruntime.ai, QNN execution provider; Core ML tensors of rank 0 to 5",
)
HALF = Rule(
    id="onnx-fp16-range",
    device="every provider that computes in float16; ONNX Runtime's CPU does not",
    why="the value comes within a factor 4 of float16's largest, or beyond it, on photographs",
    rewrite="--precision fp32; a LayerNorm written out piece by piece: pass layer-norm or safe-layer-norm",
    source="65504 / 4, measured with ONNX Runtime on photographs",
)

RULES = (FOREIGN, DYNAMIC, FLOW, RANK, HALF)
