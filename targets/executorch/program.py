"""What a saved .pte file holds: XNNPACK's parts node by node, and the operators left to ExecuTorch's own kernels.

Read back from the bytes with ExecuTorch's own deserialiser and the flatbuffer schema of its XNNPACK backend; the
constants lie apart from the graphs, under names.
"""

from __future__ import annotations

import json
import re
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.errors import TargetError
from datk.targets.chatter import sdk_chatter_off

XNNPACK = "XnnpackBackend"
_SCHEMA = Path("backends/xnnpack/serialization/schema.fbs")
_HEADER = b"XH00"
_NONE = 0xFFFFFFFF
"""XNNPACK's id of an operand that is not there."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of one of XNNPACK's graphs."""

    kind: str
    """Element type in XNNPACK's words: fp32, qint8 (one scale), qcint8 (a scale a channel), int32."""
    shape: tuple[int, ...]
    scales: NDArray[np.float32] | None = None
    zero_point: int = 0
    data: bytes | None = None
    """Of a constant."""

    @property
    def constant(self) -> bool:
        return self.data is not None

    @property
    def is_int8(self) -> bool:
        return self.kind in ("qint8", "qcint8", "quint8")


@dataclass(frozen=True)
class Node:
    """An operation of one of XNNPACK's graphs."""

    kind: str
    """FullyConnected, Conv2d, Add: XNNPACK's name without its prefix."""
    where: str
    inputs: tuple[Value, ...]
    """Data first, then weights and bias where it has any."""
    output: Value


@dataclass(frozen=True)
class Kernel:
    """An operator that runs outside XNNPACK."""

    name: str
    """aten::native_layer_norm"""
    where: str


@dataclass(frozen=True)
class PteProgram:
    """The method `forward` of a file."""

    parts: tuple[tuple[Node, ...], ...]
    """XNNPACK's graphs, in the order in which they run."""
    kernels: tuple[Kernel, ...]

    @property
    def nodes(self) -> list[Node]:
        return [node for part in self.parts for node in part]


def read_program(artifact: Path) -> PteProgram:
    """Parse a saved .pte file. Raises TargetError when it is none, or written in a form this datk does not know."""
    with sdk_chatter_off():
        from executorch.exir._serialize._program import deserialize_pte_binary
        from executorch.exir.schema import DelegateCall, KernelCall
    try:
        file = deserialize_pte_binary(artifact.read_bytes())
        plan = next(plan for plan in file.program.execution_plan if plan.name == "forward")
        named = {} if file.named_data is None else _named(file.named_data)
        parts: list[tuple[Node, ...]] = []
        kernels: list[Kernel] = []
        for number, instruction in enumerate(i for chain in plan.chains for i in chain.instructions):
            call = instruction.instr_args
            if isinstance(call, KernelCall):
                kernels.append(Kernel(plan.operators[call.op_index].name, f"instruction {number}"))
            elif isinstance(call, DelegateCall):
                delegate = plan.delegates[call.delegate_index]
                if delegate.id != XNNPACK:
                    raise ValueError(f"a part for {delegate.id}")
                payload = bytes(file.program.backend_delegate_data[delegate.processed.index].data)
                parts.append(_graph(payload, named, f"part {len(parts) + 1}"))
    except (ValueError, KeyError, IndexError, StopIteration, AssertionError, struct.error, OSError) as error:
        raise TargetError(f"{artifact}: not a .pte file that datk can read: {error}", hint="export it again") from error
    return PteProgram(tuple(parts), tuple(kernels))


def _named(store: Any) -> dict[str, bytes]:
    return {key: bytes(store.buffers[entry.buffer_index]) for key, entry in store.pte_data.items()}


def _graph(payload: bytes, named: dict[str, bytes], where: str) -> tuple[Node, ...]:
    """The nodes of one XNNPACK graph. payload: a header of 32 bytes, a flatbuffer, constants."""
    if payload[4:8] != _HEADER:
        raise ValueError(f"{where}: no XNNPACK graph")
    start, size = (int.from_bytes(payload[at : at + 4], "little") for at in (10, 14))
    constants = payload[int.from_bytes(payload[18:22], "little") :]
    graph = _json(payload[start : start + size])

    def bytes_of(index: int) -> bytes:
        entry = graph["constant_data"][index]
        if entry["named_key"]:
            return named[entry["named_key"]]
        return constants[entry["offset"] : entry["offset"] + entry["size"]]

    values = {}
    for entry in graph["xvalues"]:
        stored = entry["xvalue_union"]
        tensor, params = stored.get("tensor_value", stored), stored.get("quant_params", {})
        index = tensor["constant_buffer_idx"]
        scales: NDArray[np.float32] | None = None
        if params.get("num_scales", 0) not in (0, _NONE) and params["scale_buffer_idx"] not in (0, _NONE):
            scales = np.frombuffer(bytes_of(params["scale_buffer_idx"]), np.float32, params["num_scales"])
        elif "scale" in params:
            scales = np.atleast_1d(np.asarray(params["scale"], np.float32))
        values[tensor["id_out"]] = Value(
            kind=tensor["datatype"].removeprefix("xnn_datatype_"),
            shape=tuple(tensor["dims"]),
            scales=scales,
            zero_point=params.get("zero_point", 0),
            data=bytes_of(index) if index else None,
        )
    return tuple(_node(entry, values, f"{where}, node {i}") for i, entry in enumerate(graph["xnodes"]))


def _node(entry: dict[str, Any], values: dict[int, Value], where: str) -> Node:
    fields = entry["xnode_union"]
    names = sorted((n for n in fields if n.startswith("input") and n.endswith("_id")), key=lambda n: (len(n), n))
    used = [fields[n] for n in (*names, "filter_id", "bias_id") if n in fields]
    return Node(
        kind=entry["xnode_union_type"].removeprefix("XNN"),
        where=where,
        inputs=tuple(values[i] for i in used if i != _NONE and i in values),
        output=values[fields["output_id"]],
    )


def _json(flatbuffer: bytes) -> dict[str, Any]:
    """A flatbuffer of XNNPACK's schema as plain values."""
    import executorch
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    schema = Path(next(iter(executorch.__path__))) / _SCHEMA
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "graph.bin"
        source.write_bytes(flatbuffer)
        _flatc_decompile(folder, str(schema), str(source), ["--raw-binary"])
        text = (Path(folder) / "graph.json").read_text(encoding="utf-8")
        return json.loads(re.sub(r": (-?)inf\b", r": \1Infinity", text))  # type: ignore[no-any-return]
