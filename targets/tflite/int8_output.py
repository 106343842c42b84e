"""int8 at the output: a last QUANTIZE, so that an app receives one byte a pixel (option `output: int8`).

A value is scale * (q + 128), q in -128..127: depth and disparity are never negative. Metric depth ends at its own upper
end; disparity knows none, so its range is what the float file answers on photographs, with room.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import Contract
from datk.errors import TargetError
from datk.targets.tflite.flatbuffer import parse, serialise
from datk.targets.tflite.quiet import native_output_to

CHECK = "int8-output"
ZERO_POINT = -128
STEPS = 255
ROOM = 1.25
"""Times the largest value seen: photographs that were not tried reach further than those that were."""


def largest_answer(content: bytes, photos: Sequence[NDArray[np.uint8]], *, log: Path) -> float:
    """Largest value a float file answers on photos, (h, w, 3) uint8 each.

    Raises TargetError without photographs, or where an answer is not finite or nowhere above 0: it has no range.
    """
    from ai_edge_litert.interpreter import Interpreter

    if not photos:
        raise TargetError(
            "output int8: the range of disparity is measured on photographs, and none were given",
            hint="--images DIR, or leave the option output at float32",
        )
    with native_output_to(log):
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    largest = 0.0
    for photo in photos:
        interpreter.set_tensor(source, np.ascontiguousarray(photo)[None])
        interpreter.invoke()
        largest = max(largest, float(interpreter.get_tensor(result).max()))
    if not 0 < largest < float("inf"):
        raise TargetError(
            f"output int8: the largest answer on {len(photos)} photographs is {largest:g}, which gives no range",
            hint="the net answers nothing useful on them: `datk predict` shows what; or leave output at float32",
        )
    return largest


def with_int8_output(content: bytes, scale: float) -> bytes:
    """The file with a QUANTIZE behind its output. Raises TargetError when content is no .tflite file."""
    from ai_edge_litert import schema_py_generated as schema

    model = parse(content)
    graph = model.subgraphs[0]
    before = int(graph.outputs[0])
    tensor = schema.TensorT(shape=list(graph.tensors[before].shape), type=schema.TensorType.INT8, buffer=0)
    tensor.name = (graph.tensors[before].name or b"output") + b".int8"
    tensor.quantization = schema.QuantizationParametersT(
        scale=np.array([scale], np.float32), zeroPoint=np.array([ZERO_POINT], np.int64)
    )
    graph.tensors.append(tensor)
    after = len(graph.tensors) - 1
    kind = schema.BuiltinOperator.QUANTIZE
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=kind, builtinCode=kind, version=1))
    operator = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1, inputs=[before], outputs=[after])
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    graph.operators.append(operator)
    graph.outputs = [after]
    for signature in model.signatureDefs or []:
        signature.outputs[0].tensorIndex = after
    return serialise(model)


def told(contract: Contract, scale: float) -> Contract:
    """The contract of a file whose output is int8 with that scale."""
    output = contract.output.model_copy(update={"dtype": "int8", "scale": scale, "zero_point": ZERO_POINT})
    return contract.model_copy(update={"output": output})


def scale_of(top: float) -> float:
    """The step between two levels, as float32 holds it, for values of 0 to top."""
    return float(np.float32(top / STEPS))


def record(contract: Contract, largest: float | None, photos: int) -> dict[str, Any]:
    """The check: what the levels are worth. largest: None where the range is a metric net's own."""
    assert contract.output.scale is not None
    top = contract.output.scale * STEPS
    words = f"256 levels of {contract.output.scale:.4g} from 0 to {top:.4g}"
    measured = (
        f"; the largest answer on {photos} photographs was {largest:.4g}, more than the top is cut to it"
        if largest is not None
        else " m, the net's own range"
    )
    return {"status": "passed", "detail": words + measured, "top": top, "largest": largest, "photographs": photos}
