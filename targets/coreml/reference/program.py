"""A saved package as plain data: its manifest, its edges and the list of its operations, constants decoded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.errors import TargetError
from datk.targets.chatter import sdk_chatter_off
from datk.targets.coreml.reference.blob import BlobFile

FUNCTION = "main"
MODEL_PATH = "@model_path/"
"""How a blob's file name starts: relative to the folder of model.mlmodel."""

Constant = NDArray | str | tuple[str, ...]


@dataclass(frozen=True)
class TensorType:
    """Declared type of a value. dtype: NumPy's name, or "string"."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One MIL operation. An input is a tuple of arguments: names of values, or constants bound in place."""

    type: str
    inputs: dict[str, tuple[str | Constant, ...]]
    bound: frozenset[str]
    """Inputs that are constants bound in place, not names: constexpr operations have only such."""
    outputs: dict[str, TensorType]
    value: Constant | None = None
    """Of a const operation."""
    stored: frozenset[str] = frozenset()
    """Bound constants (and "val" of a const) that lie in the weight file, not in the specification."""

    @property
    def name(self) -> str:
        """Name of the first output: how an operation is called in messages."""
        return next(iter(self.outputs), "(no output)")


@dataclass(frozen=True)
class ImageInput:
    """The model's image input: (height, width) and colour order."""

    name: str
    size: tuple[int, int]
    colour_order: str


@dataclass(frozen=True)
class Program:
    """One function of an ML program: what a runner feeds, executes and returns."""

    path: Path
    image: ImageInput
    input_type: TensorType
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, str]
    """User-defined metadata."""
    description: str
    specification_version: int

    def histogram(self) -> dict[str, int]:
        """Operation type -> count, constants left out, sorted by name."""
        kinds = [op.type for op in self.operations if op.type != "const"]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def package_files(path: Path) -> dict[str, Path]:
    """Item name -> file of an .mlpackage, as its Manifest.json says. Raises TargetError when it is no package."""
    manifest = path / "Manifest.json"
    if not manifest.is_file():
        raise TargetError(f"{path}: no Manifest.json, so no Core ML package", hint="name an .mlpackage folder")
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        items = content["itemInfoEntries"]
        root = items[content["rootModelIdentifier"]]
        files = {item["name"]: path / "Data" / item["path"] for item in items.values()}
    except (ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{manifest}: not a package manifest ({error!r})", hint="export again") from error
    return files | {"root": path / "Data" / root["path"]}


def read_program(path: Path, name: str = FUNCTION) -> Program:
    """Read one function of a saved .mlpackage, with an image input. Raises TargetError naming what cannot be read."""
    spec_path = package_files(path)["root"]
    spec = read_specification(spec_path)
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise TargetError(f"{path}: holds a {kind}, expected an mlProgram")
    if name not in spec.mlProgram.functions:
        raise TargetError(f"{path}: no function named '{name}', only {', '.join(sorted(spec.mlProgram.functions))}")
    function = spec.mlProgram.functions[name]
    block = function.block_specializations[function.opset]
    blobs = _Blobs(spec_path.parent)
    return Program(
        path=path,
        image=_image_input(path, next((f for f in spec.description.functions if f.name == name), spec.description)),
        input_type=_tensor_type(function.inputs[0].type),
        operations=tuple(_operation(op, blobs) for op in block.operations),
        outputs=tuple(block.outputs),
        metadata=dict(spec.description.metadata.userDefined),
        description=spec.description.metadata.shortDescription,
        specification_version=spec.specificationVersion,
    )


def read_specification(path: Path) -> Any:
    """The Model protobuf message of model.mlmodel. Raises TargetError when it does not parse."""
    from google.protobuf.message import DecodeError

    with sdk_chatter_off():
        from coremltools.proto import Model_pb2
    if not path.is_file():
        raise TargetError(f"{path}: the model specification is missing", hint="export again")
    spec = Model_pb2.Model()
    try:
        spec.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise TargetError(f"{path}: not a Core ML model specification ({error})", hint="export again") from error
    return spec


class _Blobs:
    """Weight files by the name the specification gives them, each opened once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, BlobFile] = {}

    def read(self, name: str, offset: int) -> NDArray:
        relative = Path(name.removeprefix(MODEL_PATH))
        if relative.is_absolute() or ".." in relative.parts:
            raise TargetError(f"{self._folder}: the weight file '{name}' lies outside the package")
        if name not in self._open:
            self._open[name] = BlobFile(self._folder / relative)
        return self._open[name].read(offset)


def _image_input(path: Path, description: Any) -> ImageInput:
    """description: of the model, or of one of several functions."""
    from coremltools.proto import FeatureTypes_pb2

    inputs = description.input
    if len(inputs) != 1 or inputs[0].type.WhichOneof("Type") != "imageType":
        raise TargetError(f"{path}: expected one image input, found {[i.name for i in inputs]}")
    image = inputs[0].type.imageType
    order = FeatureTypes_pb2.ImageFeatureType.ColorSpace.Name(image.colorSpace)
    return ImageInput(inputs[0].name, (image.height, image.width), order)


@cache
def _dtype_names() -> dict[int, str]:
    from coremltools.proto import MIL_pb2

    names = ("FLOAT16", "FLOAT32", "FLOAT64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
    return {MIL_pb2.DataType.Value(n): n.lower() for n in names} | {
        MIL_pb2.DataType.Value("BOOL"): "bool",
        MIL_pb2.DataType.Value("STRING"): "string",
    }


def _tensor_type(value_type: Any) -> TensorType:
    if value_type.WhichOneof("type") != "tensorType":
        raise TargetError(f"a value of type {value_type.WhichOneof('type')}, expected a tensor")
    tensor = value_type.tensorType
    names = _dtype_names()
    if tensor.dataType not in names:
        raise TargetError(f"MIL data type {tensor.dataType} cannot be read here")
    return TensorType(names[tensor.dataType], tuple(d.constant.size for d in tensor.dimensions))


def _operation(op: Any, blobs: _Blobs) -> Operation:
    inputs: dict[str, tuple[str | Constant, ...]] = {}
    values: dict[str, Any] = {key: value for key, value in op.attributes.items() if key != "name"}
    for key, argument in op.inputs.items():
        if any(a.HasField("value") for a in argument.arguments):
            assert len(argument.arguments) == 1
            values[key] = argument.arguments[0].value
        else:
            inputs[key] = tuple(a.name for a in argument.arguments)
    constants = {key: _constant(value, blobs) for key, value in values.items()}
    return Operation(
        type=op.type,
        inputs=inputs | {key: (constant,) for key, constant in constants.items() if op.type != "const"},
        bound=frozenset(constants),
        outputs={o.name: _tensor_type(o.type) for o in op.outputs},
        value=constants["val"] if op.type == "const" else None,
        stored=frozenset(key for key, value in values.items() if value.HasField("blobFileValue")),
    )


def _constant(value: Any, blobs: _Blobs) -> Constant:
    """A MIL Value as NumPy array (of its declared shape), string or tuple of strings."""
    declared = _tensor_type(value.type)
    if value.HasField("blobFileValue"):
        flat = blobs.read(value.blobFileValue.fileName, value.blobFileValue.offset)
        if flat.dtype != np.dtype(declared.dtype):
            raise TargetError(f"a weight is stored as {flat.dtype}, the specification says {declared.dtype}")
    else:
        tensor = value.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "strings":
            texts = tuple(tensor.strings.values)
            return texts if declared.shape else texts[0]
        if kind == "bytes":
            flat = np.frombuffer(tensor.bytes.values, dtype=np.dtype(declared.dtype).newbyteorder("<"))
        else:
            flat = np.asarray(getattr(tensor, kind).values, dtype=declared.dtype)
    if flat.size != int(np.prod(declared.shape, dtype=np.int64)):
        raise TargetError(f"a constant holds {flat.size} values, its type says {declared.shape}")
    return flat.reshape(declared.shape)
