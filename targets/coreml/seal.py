"""Write a converted model as an .mlpackage whose bytes depend on its content alone.

coremltools' own save() draws random identifiers, keeps today's date in the metadata and leaves a debugging
file in the package. Here the identifiers come from hashes, so equal input gives equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from datk.depth.io_spec import Contract

CONTRACT_KEY = "datk.contract"
"""User-defined metadata entry that holds contract.json's text."""
_FIELDS = {"author": "author", "licence": "license", "license": "license", "version": "versionString"}
_FOLDER = "com.apple.CoreML"
_DATES = ("com.github.apple.coremltools.conversion_date",)


def describe(contract: Contract) -> str:
    """One sentence on the output for Xcode and Finder: quantity, unit and sign."""
    if contract.max_depth_m is None:
        meaning = "relative disparity (inverse depth up to an unknown scale and shift, no unit)"
    else:
        meaning = f"metric depth in metres, at most {contract.max_depth_m:g} m"
    return f"Monocular depth: RGB image -> {meaning}. Larger is {contract.larger_is}."


def write_package(model: Any, path: Path, *, contract: Contract, metadata: dict[str, str]) -> None:
    """Write model (a coremltools MLModel) to the folder path, first under a temporary name.

    metadata: `author`, `licence` and `version` go to the fields Xcode shows, anything else to
    user-defined metadata under "datk.". The contract goes there as JSON.
    """
    spec = model.get_spec()
    _describe(spec, contract, metadata)
    _tell(spec.description, contract)
    write_files(spec, Path(model.weights_dir) / "weight.bin", path)


def write_multifunction(spec: Any, weights: Path, path: Path, *, contract: Contract, metadata: dict[str, str]) -> None:
    """As write_package, of a specification with a function for each size that contract lists."""
    _describe(spec, contract, metadata)
    by_entry = {bucket.entry: contract.at(bucket.input_size) for bucket in contract.buckets}
    for function in spec.description.functions:
        _tell(function, by_entry[function.name])
        told = by_entry[function.name].edges.model_dump_json()
        spec.description.metadata.userDefined[f"{CONTRACT_KEY}.{function.name}"] = told
    write_files(spec, weights, path)


def write_files(spec: Any, weights: Path, path: Path) -> None:
    """Write specification and weight file as a package at path, first under a temporary name."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        data = part / "Data" / _FOLDER
        (data / "weights").mkdir(parents=True)
        _write(data / "model.mlmodel", spec.SerializeToString(deterministic=True))
        if weights.is_file():  # absent when every constant is small enough to stand in the specification
            _write(data / "weights" / "weight.bin", weights.read_bytes())
        _write(part / "Manifest.json", _manifest(data).encode())
        part.replace(path)
    finally:
        if part.exists():
            shutil.rmtree(part)


def _describe(spec: Any, contract: Contract, metadata: dict[str, str]) -> None:
    description = spec.description
    fields = description.metadata
    fields.shortDescription = describe(contract)
    for key in _DATES:
        fields.userDefined.pop(key, None)
    for key, value in metadata.items():
        if key in _FIELDS:
            setattr(fields, _FIELDS[key], value)
        else:
            fields.userDefined[f"datk.{key}"] = value
    fields.userDefined[CONTRACT_KEY] = contract.model_dump_json()


def _tell(description: Any, contract: Contract) -> None:
    """What Xcode shows beside input and output, of a model or of one of its functions."""
    h, w = contract.input_size
    description.input[0].shortDescription = f"RGB image, {w} wide and {h} high; {contract.normalisation}"
    description.output[0].shortDescription = f"{contract.depth_kind}, larger is {contract.larger_is}; (1, {h}, {w})"


def _manifest(data: Path) -> str:
    """Manifest.json with identifiers made from the content they name."""
    model = data / "model.mlmodel"
    weights = data / "weights"
    items = {
        _identifier("model.mlmodel", model): {
            "author": "com.apple.CoreML",
            "description": "CoreML Model Specification",
            "name": "model.mlmodel",
            "path": f"{_FOLDER}/model.mlmodel",
        },
        _identifier("weights", weights / "weight.bin"): {
            "author": "com.apple.CoreML",
            "description": "CoreML Model Weights",
            "name": "weights",
            "path": f"{_FOLDER}/weights",
        },
    }
    content = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": items,
        "rootModelIdentifier": _identifier("model.mlmodel", model),
    }
    return json.dumps(content, indent=4, sort_keys=True) + "\n"


def _identifier(name: str, file: Path) -> str:
    content = file.read_bytes() if file.is_file() else b""
    digest = hashlib.sha256(name.encode() + b"\0" + content).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
