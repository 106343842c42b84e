"""The file itself: metadata, deterministic bytes, the standard's own checker."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from datk.artifact.files import atomic_path
from datk.depth.io_spec import Contract
from datk.errors import TargetError


def weights_sha256(model: onnx.ModelProto) -> str:
    """Hex digest over the names, types, shapes and bytes of all initialisers, sorted by name."""
    digest = hashlib.sha256()
    for item in sorted(model.graph.initializer, key=lambda i: i.name):
        digest.update(item.SerializeToString(deterministic=True))
    return digest.hexdigest()


def stamp(model: onnx.ModelProto, contract: Contract, metadata: dict[str, str]) -> None:
    """Write contract, precision, weights' digest and the caller's metadata into metadata_props, sorted."""
    entries = {
        **metadata,
        "datk.contract": contract.model_dump_json(),
        "datk.precision": contract.precision,
        "datk.weights_sha256": weights_sha256(model),
    }
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(entries.items())))


def save_checked(model: onnx.ModelProto, path: Path) -> None:
    """onnx.checker, then write atomically; equal models give equal bytes. Raises TargetError."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise TargetError(f"onnx.checker refuses the exported model: {error}") from error
    with atomic_path(path) as part:
        part.write_bytes(model.SerializeToString(deterministic=True))


def read_contract(path: Path) -> Contract | None:
    """The contract inside an .onnx file, or None when it carries none."""
    model = onnx.load(path, load_external_data=False)
    text = next((p.value for p in model.metadata_props if p.key == "datk.contract"), None)
    return None if text is None else Contract.model_validate_json(text)
