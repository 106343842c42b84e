"""The layers of an IR: its convolutions and matrix products with stored weights, and how those are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_VALUES = 2048
"""Smaller weights stay float where weights are compressed: their scales would cost more than they save."""
KINDS = ("MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
MOVES = frozenset(
    ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "StridedSlice", "Split", "VariadicSplit", "Concat")
)
"""Operations that move values and compute nothing."""
_SHAPING = frozenset(("Reshape", "Transpose", "Squeeze", "Unsqueeze"))
_UNPACKING = _SHAPING | {"Convert", "Subtract", "Multiply", "FakeQuantize"}
INTEGERS = frozenset(("i8", "u8", "i4", "u4"))


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """One operation that multiplies by weights stored in the file."""

    kind: str
    name: str
    """Dotted path of the layer, as in the net."""
    node: str
    """The operation's own name."""
    stored: str
    """Element type of the weights in the file: f32, f16, i8, i4."""
    count: int
    """Number of weights."""
    nbytes: int
    scales: int
    """How many scales unpack an integer weight; 0 for a float one."""
    faked: bool
    """A FakeQuantize rounds float weights while the net runs."""
    reads: Any
    """The FakeQuantize behind its data, or None when it reads floats."""
    operation: Any
    side: int
    """Which input of the operation the weight is."""

    @property
    def runs_in_int8(self) -> bool:
        """8-bit weights in the file and quantised data: what OpenVINO's integer kernels take."""
        return self.stored == "i8" and self.reads is not None

    @property
    def input_scale(self) -> float | None:
        """Real units per step of the quantised data."""
        if self.reads is None:
            return None
        low, high = (constant(self.reads.input_value(i).get_node()) for i in (3, 4))
        if low is None or high is None or low.size != 1:
            return None
        return float(high.ravel()[0] - low.ravel()[0]) / (int(self.reads.get_attributes()["levels"]) - 1)

    def weight(self) -> NDArray[np.float32]:
        """In real numbers, (output channels, the rest in torch's order)."""
        value = constant(self.operation.input_value(self.side).get_node())
        assert value is not None
        if self.kind == "MatMul":
            attributes = self.operation.get_attributes()
            rows_first = attributes["transpose_b"] if self.side == 1 else not attributes["transpose_a"]
            value = value if rows_first else value.swapaxes(-1, -2)
        elif self.kind == "GroupConvolution":  # (groups, outputs a group, inputs a group, kernel)
            value = value.reshape(-1, *value.shape[2:])
        return np.ascontiguousarray(value.reshape(value.shape[0], -1), np.float32)

    @property
    def channels(self) -> int:
        """Output channels. Of a transposed convolution, whose weight is (inputs, outputs, kernel): its inputs."""
        shape = [int(side) for side in self.operation.input_value(self.side).get_shape()]
        if self.kind == "MatMul":
            attributes = self.operation.get_attributes()
            rows_first = attributes["transpose_b"] if self.side == 1 else not attributes["transpose_a"]
            return shape[-2] if rows_first else shape[-1]
        return shape[0] * shape[1] if self.kind == "GroupConvolution" else shape[0]


def weight_layers(model: Any) -> Iterator[StoredLayer]:
    """Every layer of an openvino.Model in the order of its graph. A product of two activations has none."""
    for node in model.get_ordered_ops():
        if node.get_type_name() not in KINDS:
            continue
        for side in (1, 0) if node.get_type_name() == "MatMul" else (1,):
            chain = _chain(node.input_value(side).get_node())
            if chain is not None:
                yield _layer(node, side, chain)
                break


def quantised_by(node: Any) -> Any:
    """The FakeQuantize whose values node carries on, moves between them left out; None for floats."""
    while node.get_type_name() in MOVES:
        node = node.input_value(0).get_node()
    return node if node.get_type_name() == "FakeQuantize" else None


def layer_path(name: str) -> str:
    """net.blocks.0.attn.qkv of net.blocks.0.attn.qkv/MatMul_14 and of what OpenVINO makes of it."""
    return name.split("/", 1)[0].removesuffix(".weight")


def constant(node: Any) -> NDArray[np.float32] | None:
    """Value of a part of the graph without inputs, unpacked to float32; None when it depends on the image."""
    kind = node.get_type_name()
    if kind == "Constant":
        return np.asarray(node.get_data(), np.float32)
    if kind not in _UNPACKING or kind == "FakeQuantize":
        return None
    value = constant(node.input_value(0).get_node())
    if value is None or kind == "Convert":
        return value
    if kind == "Transpose":
        return value.transpose(node.input_value(1).get_node().get_data().tolist())
    if kind in _SHAPING:
        return value.reshape(tuple(node.get_output_shape(0)))
    other = constant(node.input_value(1).get_node())
    if other is None:
        return None
    return value * other if kind == "Multiply" else value - other


def _chain(node: Any) -> list[Any] | None:
    """From what a layer reads as its weight down to the stored constant; None when it depends on the image."""
    chain = [node]
    while chain[-1].get_type_name() in _UNPACKING:
        chain.append(chain[-1].input_value(0).get_node())
    return chain if chain[-1].get_type_name() == "Constant" else None


def _layer(node: Any, side: int, chain: list[Any]) -> StoredLayer:
    stored = chain[-1]
    scale = next((n for n in chain if n.get_type_name() == "Multiply"), None)
    own = node.get_friendly_name()
    return StoredLayer(
        kind=node.get_type_name(),
        name=layer_path(own if "/" in own else stored.get_friendly_name()),
        node=own,
        stored=stored.get_element_type().get_type_name(),
        count=int(np.prod(tuple(stored.get_output_shape(0)))),
        nbytes=int(stored.get_byte_size()),
        scales=0 if scale is None else int(np.prod(tuple(scale.input_value(1).get_shape()))),
        faked=any(n.get_type_name() == "FakeQuantize" for n in chain),
        reads=quantised_by(node.input_value(1 - side).get_node()),
        operation=node,
        side=side,
    )
