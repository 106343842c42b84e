"""int8-weights and int4-weights: NNCF's weight compression on the IR. Arithmetic in float, nothing is calibrated."""

from __future__ import annotations

from typing import Any

from datk.errors import TargetError
from datk.targets.chatter import sdk_chatter_off
from datk.targets.openvino.layers import LEAST_VALUES, weight_layers

GROUP = 64
"""Input channels that share one int4 scale. Every DINOv2 has a multiple of it."""
PRECISIONS = ("int8-weights", "int4-weights")


def compress(model: Any, precision: str) -> Any:
    """The model with the large weights of its layers stored as integers. Raises TargetError in NNCF's words.

    int8-weights: symmetric, one scale for each output channel. int4-weights: matrices symmetric in int4 with one scale
    for GROUP input channels; convolutions, which OpenVINO has no int4 kernels for, as in int8-weights.
    """
    small = [layer.node for layer in weight_layers(model) if layer.count < LEAST_VALUES]
    with sdk_chatter_off():
        import nncf

        if precision == "int4-weights":
            options: dict[str, Any] = {
                "mode": nncf.CompressWeightsMode.INT4_SYM,
                "backup_mode": nncf.BackupMode.INT8_SYM,
                "group_size": GROUP,
                "ratio": 1.0,
                "all_layers": True,
            }
        else:
            options = {"mode": nncf.CompressWeightsMode.INT8_SYM}
        try:
            return nncf.compress_weights(model, ignored_scope=nncf.IgnoredScope(names=small), **options)
        except (nncf.ValidationError, nncf.ParameterNotSupportedError, nncf.InternalError, RuntimeError) as error:
            raise TargetError(f"NNCF refused to compress to {precision}: {error}") from error
