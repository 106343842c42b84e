"""NaN and infinity in calibration, found and named before they become a scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fx import GraphModule, Interpreter, Node

from datk.errors import DataError
from datk.quantize.calibration import image_name, input_tensor
from datk.targets.base import InputForm


def check_finite(
    program: torch.nn.Module,
    images: Mapping[int, NDArray[np.uint8]],
    input_form: InputForm,
    names: Sequence[str] | None = None,
) -> None:
    """Raise DataError naming the first layer of a float program that puts out NaN or infinity, and on which image.

    program: an exported float program. images: (h, w, 3) uint8 RGB of its bucket, by their number in the set. names:
    of all images of the set.
    """
    assert isinstance(program, GraphModule)
    for number, image in images.items():
        watch = _Watch(program)
        with torch.no_grad():
            watch.run(input_tensor(image, input_form))
        if watch.found is not None:
            raise DataError(
                f"{image_name(number, names)}: {watch.found} puts out NaN or infinity, so its range is infinite",
                hint="the float net itself is broken there: datk doctor weights FILE, or leave that photograph out",
            )


def check_scales(program: GraphModule) -> bool:
    """Whether every scale of a quantised program is a finite positive number."""
    ops = torch.ops.quantized_decomposed
    for node in program.graph.nodes:
        if node.target is ops.quantize_per_tensor.default and not _good(cast(float, node.args[1])):
            return False
        if node.target is ops.dequantize_per_channel.default and isinstance(node.args[1], Node):
            scales = _attribute(program, str(node.args[1].target))
            if not bool(torch.isfinite(scales).all()) or not bool((scales > 0).all()):
                return False
    return True


def _good(scale: float) -> bool:
    return math.isfinite(scale) and scale > 0


def _attribute(program: GraphModule, path: str) -> torch.Tensor:
    value: Any = program
    for part in path.split("."):
        value = getattr(value, part)
    assert isinstance(value, torch.Tensor)
    return value


class _Watch(Interpreter):
    """Runs a program and keeps the path of the first module with a value that is not finite."""

    def __init__(self, program: GraphModule) -> None:
        super().__init__(program)
        self.found: str | None = None

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        floating = isinstance(value, torch.Tensor) and value.is_floating_point()
        if self.found is None and n.op == "call_function" and floating and not bool(torch.isfinite(value).all()):
            stack = n.meta.get("nn_module_stack") or {"": ("the net", None)}
            self.found = str(list(stack.values())[-1][0]) or "the net"
        return value
