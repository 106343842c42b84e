"""Smaller weights in a converted package: lookup tables (palettisation) or int8 per output channel; arithmetic in fp16.

Core ML unpacks them when the model is loaded or while it runs; nothing is calibrated. Layers are compressed whole where
their weight has at least LEAST_VALUES values; smaller ones would gain nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from datk.errors import TargetError
from datk.targets.chatter import sdk_chatter_off
from datk.targets.coreml.bars import progress_bars_off
from datk.targets.coreml.reference.program import Operation, Program

PALETTES = {"lut8": 8, "lut6": 6, "lut4": 4}
"""Precision -> bits of an index into each weight's own table."""
PRECISIONS = (*PALETTES, "int8-weights")
LEAST_VALUES = 2048
"""coremltools compresses what is larger than its threshold, which is therefore one less."""
NAME = "compressed-weights"
_KINDS = {"int8-weights": "constexpr_affine_dequantize"} | dict.fromkeys(PALETTES, "constexpr_lut_to_dense")


def compress(model: Any, precision: str) -> Any:
    """A coremltools MLModel with the weights of a float one compressed. Raises TargetError in coremltools' words."""
    with sdk_chatter_off(), progress_bars_off():
        import coremltools.optimize.coreml as cto

        if precision in PALETTES:
            table = cto.OpPalettizerConfig(mode="kmeans", nbits=PALETTES[precision], weight_threshold=LEAST_VALUES - 1)
            config = cto.OptimizationConfig(global_config=table)
            work = cto.palettize_weights
        else:
            linear = cto.OpLinearQuantizerConfig(
                mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=LEAST_VALUES - 1
            )
            config = cto.OptimizationConfig(global_config=linear)
            work = cto.linear_quantize_weights
        try:
            return work(model, config)
        except (ValueError, TypeError, RuntimeError, AssertionError, NotImplementedError) as error:
            raise TargetError(f"coremltools refused to compress to {precision}: {error}") from error


def check_compressed(program: Program, precision: str) -> dict[str, Any]:
    """The check `compressed-weights` of a saved package: every large weight is stored as the precision says.

    Counted from the file: linears, convolutions and transposed convolutions by how their weight is made.
    """
    made: dict[str, Operation] = {name: op for op in program.operations for name in op.outputs}
    stored: Counter[str] = Counter()
    plain: list[str] = []
    coarse: list[str] = []
    for op in program.operations:
        if op.type not in ("linear", "conv", "conv_transpose"):
            continue
        weight = made.get(str(op.inputs["weight"][0]))
        kind = weight.type if weight is not None else "const"
        stored[kind] += 1
        shape = next(iter(weight.outputs.values())).shape if weight is not None else ()
        if kind == _KINDS[precision]:
            assert weight is not None
            coarse += [op.name] if _too_coarse(weight, precision) else []
        elif int(np.prod(shape)) >= LEAST_VALUES:
            plain.append(f"{op.type} {op.name} ({kind})")
    problems = []
    if plain:
        problems.append(f"{len(plain)} large weights are not stored as {precision}: {', '.join(plain[:6])}")
    if not stored[_KINDS[precision]]:
        problems.append(f"no weight is stored as {precision}")
    if coarse:
        problems.append(f"{len(coarse)} weights have another table or scale than {precision}: {', '.join(coarse[:6])}")
    count, small = stored[_KINDS[precision]], stored["const"]
    return {
        "status": "failed" if problems else "passed",
        "detail": "; ".join(problems) or f"{count} weights stored as {precision}, {small} small ones in float",
        "stored": dict(sorted(stored.items())),
    }


def _too_coarse(weight: Operation, precision: str) -> bool:
    """Whether a table has another number of entries, or int8 fewer scales than output channels."""
    if precision in PALETTES:
        return bool(np.asarray(weight.inputs["lut"][0]).size != 2 ** PALETTES[precision])
    scales, axis = np.asarray(weight.inputs["scale"][0]), int(np.asarray(weight.inputs["axis"][0]))
    return bool(scales.size != np.asarray(weight.inputs["quantized_data"][0]).shape[axis])
