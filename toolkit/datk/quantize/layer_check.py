"""Layer by layer, does the quantised program compute what the float net computes on reference photographs?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx import GraphModule, Interpreter, Node

from datk.quantize.calibration import input_tensor
from datk.quantize.outliers import scaled_layer
from datk.quantize.ptq import export_program
from datk.targets.base import InputForm
from datk.targets.pt2e import layer_names, weighted_nodes

Check = dict[str, Any]
PHOTOS = 3
GAIN = (0.75, 1.33)
"""A layer may answer that many times the float layer; a scale off by 2 lies far outside, rounding far inside."""
MOST_SATURATED = 0.05
"""Share of an activation beyond its quantiser's range. Ranges from fitting images cut 0 to 0.1 %."""
SAMPLES = 2**15
"""Values kept of each layer's output: evenly spread, enough for a gain."""


def check_layers(
    program: GraphModule, floating: nn.Module, photos: Sequence[NDArray[np.uint8]], *, input_form: InputForm
) -> Check:
    """The check `int8-layers`: gain of every layer against the float one, and what its input's range cuts off.

    program: NNCF's quantised program of `floating`, a deployment module. photos: (h, w, 3) uint8 RGB of its bucket, not
    used in calibration; the first few are run through both. Failed: a layer answers a multiple of the float layer (a
    scale is wrong), or much of its input lies beyond its range (calibrated on something else). Named in graph order,
    the first one first, since later ones inherit its error.
    """
    if not photos:
        return {"status": "not_measured", "detail": "no reference photographs were given"}
    example = input_tensor(photos[0], input_form)
    plain = export_program(floating, example).module(check_guards=False)
    assert isinstance(plain, GraphModule)
    names = layer_names(plain)
    runs = [(_Layers(plain, names), _Layers(program, names)) for _ in photos[:PHOTOS]]
    with torch.no_grad():
        for photo, pair in zip(photos, runs, strict=False):
            for watch in pair:
                watch.run(input_tensor(photo, input_form))
    gains = {name: float(np.median([_gain(a.outputs[name], b.outputs[name]) for a, b in runs])) for name in names}
    agreement = {name: float(np.median([_r(a.outputs[name], b.outputs[name]) for a, b in runs])) for name in names}
    cut = {name: max(b.saturated.get(name, 0.0) for _, b in runs) for name in names}
    wrong = [f"{name} answers {gain:.2g} times the float layer" for name, gain in gains.items() if not _right(gain)]
    wrong += [f"{100 * s:.0f} % of {name}'s input is beyond its range" for name, s in cut.items() if s > MOST_SATURATED]
    worst = min(agreement, key=lambda name: agreement[name])
    least = f"least {worst}: r {agreement[worst]:.4f}"
    good = f"{len(names)} layers follow the float net on {len(runs)} photographs; {least}"
    more = f"; {len(wrong) - 1} more such" if len(wrong) > 1 else ""
    return {
        "status": "failed" if wrong else "passed",
        "detail": f"first of them: {wrong[0]}{more}" if wrong else good,
        "worst_layer": worst,
        "worst_r": round(agreement[worst], 6),
        "most_saturated": round(max(cut.values(), default=0.0), 6),
        "wrong": wrong,
    }


def _right(gain: float) -> bool:
    return GAIN[0] <= gain <= GAIN[1]


def _gain(floating: NDArray[np.float64], quantised: NDArray[np.float64]) -> float:
    """Least-squares factor; 1 for a layer that puts out a constant, which no factor can be told of."""
    f, q = floating - floating.mean(), quantised - quantised.mean()
    power = float(f @ f)
    return float(f @ q) / power if power > 1e-12 * max(1.0, float(floating @ floating)) else 1.0


def _r(floating: NDArray[np.float64], quantised: NDArray[np.float64]) -> float:
    f, q = floating - floating.mean(), quantised - quantised.mean()
    norms = float(np.linalg.norm(f) * np.linalg.norm(q))
    return float(f @ q) / norms if norms > 0 else 1.0


class _Layers(Interpreter):
    """Runs a program and keeps samples of every layer's output and how much of its input was cut off."""

    def __init__(self, program: GraphModule, names: Sequence[str]) -> None:
        super().__init__(program)
        self._names = dict(zip(weighted_nodes(program), names, strict=True))
        self.outputs: dict[str, NDArray[np.float64]] = {}
        self.saturated: dict[str, float] = {}

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        layer = n if n in self._names else scaled_layer(n)
        if layer is not None and layer in self._names:
            flat = value.flatten()
            step = max(1, flat.numel() // SAMPLES)
            self.outputs[self._names[layer]] = flat[::step].double().numpy()
        if n.target is torch.ops.quantized_decomposed.quantize_per_tensor.default and isinstance(n.args[0], Node):
            self._count_cut(n)
        return value

    def _count_cut(self, node: Node) -> None:
        source = node.args[0]
        assert isinstance(source, Node)
        x = self.env[source]
        scale, zero, low, high = (float(cast(float, a)) for a in node.args[1:5])
        beyond = ((x > (high - zero + 0.5) * scale) | (x < (low - zero - 0.5) * scale)).float().mean()
        for reader in node.users:
            for layer in reader.users:
                if layer in self._names:
                    self.saturated[self._names[layer]] = float(beyond)
