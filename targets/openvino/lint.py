"""What a saved IR really holds: read back from disk, not believed from the recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.fx import GraphModule

from datk.targets.int8_layers import Int8Layer, differing, program_layers
from datk.targets.int8_record import Int8Findings, some
from datk.targets.openvino.layers import INTEGERS, LEAST_VALUES, MOVES, StoredLayer, quantised_by, weight_layers
from datk.targets.openvino.weights import GROUP

STORED = {"fp32": "f32", "fp16": "f16"}


def check_int8(model: Any, expected: Sequence[str] | None, program: nn.Module) -> dict[str, Any]:
    """The check `int8-scheme`: every layer the scheme selects reads quantised data and has int8 weights, no other does.

    model: the saved IR. expected: names the scheme selected in the float net; None for as many as the program
    quantises. program: NNCF's, whose weights and input scales the file must hold.
    """
    meant = program_layers(program) if isinstance(program, GraphModule) else []
    layers = list(weight_layers(model))
    found = [layer for layer in layers if layer.runs_in_int8]
    names = expected if expected is not None else [m.name for m in meant]
    numbers = [Int8Layer(layer.name, layer.weight(), layer.input_scale) for layer in found]
    extra = Counter(layer.name for layer in found) - Counter(names)
    half_way = [layer.name for layer in layers if layer.stored in INTEGERS and layer.reads is None]
    return Int8Findings(
        meant=len(names),
        int8_ops=dict(Counter(layer.kind for layer in found)),
        float_ops=dict(Counter(layer.kind for layer in layers if layer.stored not in INTEGERS and layer.reads is None)),
        int8_weight_bytes=sum(layer.nbytes for layer in layers if layer.stored in INTEGERS),
        not_int8=list((Counter(names) - Counter(layer.name for layer in found)).elements()),
        float_weights=[layer.name for layer in layers if layer.faked or _fake(layer)],
        fragile=fragile(model, {layer.node for layer in layers}),
        per_tensor=[layer.name for layer in found if layer.scales != layer.channels],
        scales=differing(numbers, meant) if meant else [],
        other=[
            *([f"layers run in int8 though the scheme keeps them in float: {some(sorted(extra))}"] if extra else []),
            *([f"weights are int8 but data are float: {some(half_way)}"] if half_way else []),
            *edges(model),
        ],
    ).record()


def fragile(model: Any, layers: set[str]) -> list[str]:
    """What must stay in float and reads quantised values: residual adds, LayerNorm, softmax, attention products."""
    wrong = []
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if node.get_friendly_name() in layers or kind in (*MOVES, "FakeQuantize", "Constant", "Result"):
            continue
        sources = (node.input_value(i).get_node() for i in range(node.get_input_size()))
        if any(quantised_by(source) is not None for source in sources):
            wrong.append(f"{kind} {node.get_friendly_name()}")
    return wrong


def check_float(model: Any, precision: str) -> dict[str, Any]:
    """The check `weights` of an fp32 or fp16 IR: every layer's weights are stored as the precision says."""
    layers = list(weight_layers(model))
    wrong = [f"{layer.name} ({layer.stored})" for layer in layers if layer.stored != STORED[precision]]
    quantised = [n.get_friendly_name() for n in model.get_ordered_ops() if n.get_type_name() == "FakeQuantize"]
    problems = [
        *([f"{len(wrong)} layers are not stored as {STORED[precision]}: {some(wrong)}"] if wrong else []),
        *([] if layers else ["the file holds no layer with weights"]),
        *([f"{len(quantised)} tensors of a {precision} file are quantised: {some(quantised)}"] if quantised else []),
        *edges(model),
    ]
    return {
        "status": "failed" if problems else "passed",
        "detail": "; ".join(problems) or f"{len(layers)} layers, weights stored as {STORED[precision]}",
        "stored": dict(sorted(Counter(layer.stored for layer in layers).items())),
    }


def check_compressed(model: Any, precision: str) -> dict[str, Any]:
    """The check `compressed-weights`: every large weight is stored as the precision says, every activation is float."""
    layers = list(weight_layers(model))
    wrong = [problem for layer in layers if (problem := _not_compressed(layer, precision))]
    wanted = "i4" if precision == "int4-weights" else "i8"
    counts = Counter(layer.stored for layer in layers)
    problems = [
        *([] if counts[wanted] else [f"no weight is stored as {wanted}{_why_none(layers, wanted)}"]),
        *([f"{len(wrong)} layers: {some(wrong)}"] if wrong else []),
        *([f"a {precision} file reads quantised data"] if any(layer.reads for layer in layers) else []),
        *edges(model),
    ]
    return {
        "status": "failed" if problems else "passed",
        "detail": "; ".join(problems)
        or "layers by stored weights: " + ", ".join(f"{n} {k}" for k, n in counts.items()),
        "stored": dict(sorted(counts.items())),
        "weight_bytes": sum(layer.nbytes for layer in layers),
    }


def edges(model: Any) -> list[str]:
    """A sentence unless the IR takes uint8 and gives float32, one tensor each."""
    types = [p.get_element_type().get_type_name() for p in (*model.inputs, *model.outputs)]
    return [] if types == ["u8", "f32"] else [f"input and output are {types}, expected u8 and f32"]


def _why_none(layers: Sequence[StoredLayer], wanted: str) -> str:
    if wanted != "i4" or any(layer.kind == "MatMul" for layer in layers):
        return ""
    return ": linears alone are, and a net of convolutions has none; int8-weights takes them"


def _fake(layer: StoredLayer) -> bool:
    return layer.reads is not None and layer.stored not in INTEGERS


def _not_compressed(layer: StoredLayer, precision: str) -> str:
    if layer.count < LEAST_VALUES:
        return "" if layer.stored not in INTEGERS else f"{layer.name}: a small weight is stored as {layer.stored}"
    wanted = "i4" if precision == "int4-weights" and layer.kind == "MatMul" else "i8"
    if layer.stored != wanted:
        return f"{layer.name}: stored as {layer.stored}, meant as {wanted}"
    scales = layer.count // GROUP if wanted == "i4" else layer.channels
    return "" if layer.scales == scales else f"{layer.name}: {layer.scales} scales, meant {scales}"
