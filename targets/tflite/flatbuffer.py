"""The .tflite file as data: reading metadata with nothing installed, editing with LiteRT's schema.

Format: TensorFlow Lite schema version 3 (FlatBuffers, file identifier TFL3).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datk.errors import DataError, TargetError

IDENTIFIER = b"TFL3"
DATA_ALIGNMENT = 16
"""The schema's force_align of Buffer.data; Python's generated code forgets it, kernels count on it."""
MAX_BYTES = 2**31 - 1
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2


def read_metadata(path: Path) -> dict[str, str]:
    """Name -> text of every metadata entry of a .tflite file, in file order. Needs only Python.

    Entries that are not UTF-8 text are left out (LiteRT's own are padded with zeros, which are cut).
    Raises DataError when path cannot be read or is no .tflite file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if content[4:8] != IDENTIFIER:
        raise DataError(f"{path}: not a .tflite file (no TFL3 identifier)")
    try:
        return _metadata(content)
    except (struct.error, IndexError) as error:
        raise DataError(f"{path}: damaged .tflite file ({error})", hint="export it again") from error


def _metadata(content: bytes) -> dict[str, str]:
    model = _Table(content, _u32(content, 0))
    buffers = model.tables(_MODEL_BUFFERS)
    found: dict[str, str] = {}
    for entry in model.tables(_MODEL_METADATA):
        name = entry.bytes_at(_METADATA_NAME).decode(errors="replace")
        buffer = buffers[entry.number(_METADATA_BUFFER, "I")]
        start, size = buffer.number(_BUFFER_OFFSET, "Q"), buffer.number(_BUFFER_SIZE, "Q")
        data = content[start : start + size] if start > 1 else buffer.bytes_at(_BUFFER_DATA)
        try:
            found[name] = data.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            continue
    return found


def _u32(content: bytes, position: int) -> int:
    return int(struct.unpack_from("<I", content, position)[0])


class _Table:
    """A FlatBuffers table: fields found through its vtable, absent ones empty or zero."""

    def __init__(self, content: bytes, position: int) -> None:
        self.content = content
        self.position = position
        self.vtable = position - struct.unpack_from("<i", content, position)[0]
        self.fields = struct.unpack_from("<H", content, self.vtable)[0] // 2 - 2

    def _field(self, index: int) -> int | None:
        if index >= self.fields:
            return None
        offset = struct.unpack_from("<H", self.content, self.vtable + 4 + 2 * index)[0]
        return self.position + offset if offset else None

    def number(self, index: int, kind: str) -> int:
        at = self._field(index)
        return 0 if at is None else int(struct.unpack_from(f"<{kind}", self.content, at)[0])

    def bytes_at(self, index: int) -> bytes:
        at = self._field(index)
        if at is None:
            return b""
        start = at + _u32(self.content, at)
        return self.content[start + 4 : start + 4 + _u32(self.content, start)]

    def tables(self, index: int) -> list[_Table]:
        at = self._field(index)
        if at is None:
            return []
        start = at + _u32(self.content, at)
        slots = (start + 4 + 4 * i for i in range(_u32(self.content, start)))
        return [_Table(self.content, slot + _u32(self.content, slot)) for slot in slots]


def parse(content: bytes) -> Any:
    """A .tflite file's bytes -> LiteRT schema's ModelT object, data of outside buffers taken in.

    Raises TargetError when the bytes are no .tflite file.
    """
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != IDENTIFIER:
        raise TargetError("the converter's output is no .tflite file (no TFL3 identifier)")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if buffer.data is None and buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, count=buffer.size, offset=buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def serialise(model: Any) -> bytes:
    """ModelT -> bytes, every buffer inside and on a 16-byte boundary; equal models give equal bytes.

    Raises TargetError above 2 GiB, which a FlatBuffers file cannot hold.
    """
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    total = sum(len(b.data) for b in model.buffers if b.data is not None)
    if total > MAX_BYTES - 2**24:
        raise TargetError(
            f"the weights take {total / 2**30:.1f} GiB; a .tflite file holds at most 2 GiB",
            hint="export a smaller net, or --precision fp16 or int8",
        )

    class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> Any:  # noqa: N802 (the generated code's name)
            position = None
            if self.data is not None:
                raw = np.ascontiguousarray(self.data, dtype=np.uint8).tobytes()
                builder.StartVector(1, len(raw), DATA_ALIGNMENT)
                builder.head -= len(raw)
                builder.Bytes[builder.head : builder.head + len(raw)] = raw
                position = builder.EndVector()
            schema.BufferStart(builder)
            if position is not None:
                schema.BufferAddData(builder, position)
            return schema.BufferEnd(builder)

    plain = model.buffers
    model.buffers = [AlignedBuffer(data=buffer.data) for buffer in plain]
    builder = flatbuffers.Builder(total + 2**20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    model.buffers = plain
    return bytes(builder.Output())


def finish(content: bytes, *, input_name: str, output_name: str, metadata: dict[str, str]) -> bytes:
    """The converter's bytes with named edges and our metadata entries (sorted by name)."""
    model = parse(content)
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].name = input_name.encode()
    graph.tensors[graph.outputs[0]].name = output_name.encode()
    for signature in model.signatureDefs or []:
        signature.inputs[0].name = input_name.encode()
        signature.outputs[0].name = output_name.encode()
    with_metadata(model, metadata)
    return serialise(model)


def with_metadata(model: Any, metadata: Mapping[str, str]) -> None:
    """Add metadata entries (sorted by name) to a ModelT in place, in place of those of the same names."""
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema

    model.description = b"Depth Anything V2, exported by datk"
    model.metadata = [m for m in model.metadata or [] if m.name.decode() not in metadata]
    for name, text in sorted(metadata.items()):
        model.metadata.append(schema.MetadataT(name=name.encode(), buffer=len(model.buffers)))
        model.buffers.append(schema.BufferT(data=np.frombuffer(text.encode(), np.uint8)))
