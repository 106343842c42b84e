"""From a deployment module to a clean ONNX model: static shapes, opset 20, no trace of this machine."""

from __future__ import annotations

import ast

import onnx
import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from datk.depth.io_spec import Size
from datk.errors import TargetError
from datk.models.passes.layer_norm import single_layer_norm
from datk.targets.chatter import sdk_chatter_off
from datk.targets.onnx.graph import drop_unused
from datk.targets.onnx.passes import cast_before_transpose, transpose_stored_weights

OPSET = 20
INPUT_NAME = "image"
OUTPUT_NAME = "depth"
PROTOBUF_LIMIT_BYTES = 2**31 - 1


def onnx_model(module: nn.Module, input_size: Size) -> onnx.ModelProto:
    """Export a float or quantised deployment module: uint8 (1, h, w, 3) in, float32 (1, h, w) out.

    Nodes are named after the layer they come from. Raises TargetError with the exporter's own words.
    """
    example = torch.zeros((1, *input_size, 3), dtype=torch.uint8)
    try:
        with sdk_chatter_off(), torch.no_grad():
            exported = torch.export.export(module, (example,))
            if single_layer_norm(exported.graph):  # an encoder from elsewhere may write it out, which overflows in half
                exported.graph_module.recompile()
            program = torch.onnx.export(
                exported,
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, TorchDynamoException, GuardOnDataDependentSymNode) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TargetError(f"torch.onnx could not export the net: {first}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _clean(model)
    cast_before_transpose(model.graph)
    transpose_stored_weights(model.graph)
    drop_unused(model.graph)
    _no_leftovers(model, input_size)
    return with_types(model)


def with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every tensor's type and shape inferred anew (and checked against each other)."""
    del model.graph.value_info[:]
    if model.ByteSize() > PROTOBUF_LIMIT_BYTES:
        raise TargetError(
            f"the ONNX file would hold {model.ByteSize() / 1e9:.1f} GB, more than protobuf's 2 GB",
            hint="export a smaller student, or --precision fp16 or int8",
        )
    return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def _clean(model: onnx.ModelProto) -> None:
    """Drop what only describes the machine and the trace: stack traces, doc strings, tool versions."""
    for index, node in enumerate(model.graph.node):
        node.name = _layer_path(node, index)
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for item in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    for holder in (model, model.graph):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    model.graph.name = "datk"
    model.producer_name = "datk"
    model.ClearField("producer_version")


def _layer_path(node: onnx.NodeProto, index: int) -> str:
    """`net.pretrained.blocks.0.attn.qkv/MatMul_17`: the parser's errors then name the layer."""
    scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
    path = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]
    return f"{path[-1] if path else 'datk'}/{node.op_type}_{index}"


def _no_leftovers(model: onnx.ModelProto, input_size: Size) -> None:
    """Fail on what the passes of this package do not handle, rather than write a file with it."""
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})
    if foreign or model.functions:
        raise TargetError(f"torch.onnx left operators outside the ONNX standard: {', '.join(foreign) or 'functions'}")
    h, w = input_size
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*model.graph.input, *model.graph.output)]
    if shapes != [[1, h, w, 3], [1, h, w]]:
        raise TargetError(f"the exported net has edges of shapes {shapes}, expected (1, {h}, {w}, 3) -> (1, {h}, {w})")
    subgraphs = [n.name for n in model.graph.node if any(a.HasField("g") for a in n.attribute)]
    constants = [n.name for n in model.graph.node if n.op_type == "Constant"]
    assert not subgraphs and not constants, (subgraphs, constants)
