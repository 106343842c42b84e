"""Several .tflite files of one net as one file: a signature for each input size, equal weights stored once.

A packing of files that were judged one by one, not a conversion: every operator, tensor and weight is the one that was
measured. Signatures are the format's own way to hold several entry points (schema: Model.signature_defs).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datk.artifact.files import atomic_path
from datk.errors import TargetError
from datk.targets.base import PackRequest
from datk.targets.tflite.flatbuffer import parse, serialise, with_metadata

ARTIFACT = "model.tflite"
SUBGRAPH_FIELDS = (
    *("subgraph", "thenSubgraphIndex", "elseSubgraphIndex", "condSubgraphIndex", "bodySubgraphIndex"),
    *("initSubgraphIndex", "decompositionSubgraphIndex", "reducerSubgraphIndex"),
)
"""Fields of an operator's options that count subgraphs of the file."""


def pack(request: PackRequest) -> Path:
    """Write request.out/model.tflite. Raises TargetError when a part is no .tflite file or has not one signature."""
    models = {entry: parse(path.read_bytes()) for entry, path in request.parts.items()}
    merged = merge(models)
    contracts = {
        f"datk.contract.{bucket.entry}": request.contract.at(bucket.input_size).edges.model_dump_json()
        for bucket in request.contract.buckets
    }
    with_metadata(merged, {**request.metadata, "datk.contract": request.contract.edges.model_dump_json(), **contracts})
    path = request.out / ARTIFACT
    with atomic_path(path) as part:
        part.write_bytes(serialise(merged))
    return path


def merge(models: Mapping[str, Any]) -> Any:
    """Signature name -> ModelT, each with one signature, as one ModelT; metadata is the first one's.

    Buffers with equal bytes are stored once. Raises TargetError for a model that has not exactly one signature.
    """
    from ai_edge_litert import schema_py_generated as schema

    whole = schema.ModelT()
    whole.version = next(iter(models.values())).version
    whole.operatorCodes, whole.subgraphs, whole.signatureDefs = [], [], []
    whole.buffers = [schema.BufferT()]  # the schema's sentinel: buffer 0 is empty
    codes: dict[tuple[Any, ...], int] = {}
    known: dict[bytes, int] = {}
    for name, model in models.items():
        if len(model.signatureDefs or []) != 1:
            raise TargetError(f"{name}: {len(model.signatureDefs or [])} signatures in the file, expected one")
        code_at = [_known_code(code, codes, whole) for code in model.operatorCodes]
        buffer_at = [_known_buffer(buffer, known, whole) for buffer in model.buffers]
        first = len(whole.subgraphs)
        for graph in model.subgraphs:
            for tensor in graph.tensors:
                tensor.buffer = buffer_at[tensor.buffer]
            for operator in graph.operators:
                operator.opcodeIndex = code_at[operator.opcodeIndex]
                _shift_subgraphs(operator, first)
            graph.name = f"{name}/{(graph.name or b'main').decode()}".encode()
            whole.subgraphs.append(graph)
        signature = model.signatureDefs[0]
        signature.signatureKey = name.encode()
        signature.subgraphIndex += first
        whole.signatureDefs.append(signature)
    one = next(iter(models.values()))
    whole.metadata = [m for m in one.metadata or [] if not m.name.startswith(b"datk.")]
    for entry in whole.metadata:
        entry.buffer = _known_buffer(one.buffers[entry.buffer], known, whole)
    return whole


def _known_code(code: Any, codes: dict[tuple[Any, ...], int], whole: Any) -> int:
    key = (code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version)
    if key not in codes:
        codes[key] = len(whole.operatorCodes)
        whole.operatorCodes.append(code)
    return codes[key]


def _known_buffer(buffer: Any, known: dict[bytes, int], whole: Any) -> int:
    if buffer.data is None or len(buffer.data) == 0:
        return 0
    digest = hashlib.sha256(bytes(buffer.data)).digest()
    if digest not in known:
        known[digest] = len(whole.buffers)
        whole.buffers.append(buffer)
    return known[digest]


def _shift_subgraphs(operator: Any, by: int) -> None:
    for options in filter(None, (operator.builtinOptions, getattr(operator, "builtinOptions2", None))):
        for field in SUBGRAPH_FIELDS:
            value = getattr(options, field, -1)
            if value >= 0:
                setattr(options, field, value + by)
