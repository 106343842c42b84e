"""What every export is asked alike, whatever its target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from datk.depth.io_spec import Contract
from datk.targets import op_lint
from datk.targets.base import BuildResult, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from datk.models.weights import Checkpoint


def common_checks(
    target: Target,
    checkpoint: Checkpoint,
    module: nn.Module,
    floating: nn.Module,
    result: BuildResult,
    images: Sequence[NDArray[np.uint8]],
    options: Any = None,
) -> dict[str, dict[str, Any]]:
    """What every target is asked alike: its operators, the input as it reads it; of int8 also calibration and layers.

    options: the target's own, as its build had them.
    """
    from torch.fx import GraphModule

    from datk.evaluate.input_path import check_input_path
    from datk.quantize.calibration import RECORD
    from datk.quantize.input_check import check_calibration_input
    from datk.quantize.layer_check import check_layers

    checks: dict[str, dict[str, Any]] = {op_lint.NAME: _op_lint(target, result, images, options)}
    if isinstance(module, GraphModule):
        checks["calibration-input"] = check_calibration_input(module.meta.get(RECORD, []), images)
        checks["int8-layers"] = check_layers(module, floating, images, input_form=target.input_form)
    if reason := target.cannot_run():
        checks["input-path"] = {"status": "not_measured", "detail": f"cannot be run on this machine: {reason}"}
        return checks
    runner = target.open(result.artifact, result.contract)
    try:
        checks["input-path"] = check_input_path(runner.predict, _float_net(checkpoint, result.contract), images)
    finally:
        runner.close()
    return checks


def _op_lint(target: Target, result: BuildResult, images: Sequence[NDArray[np.uint8]], options: Any) -> dict[str, Any]:
    if target.op_lint is None:
        return {"status": "not_measured", "detail": f"target '{target.name}' has no lint of operators"}
    request = op_lint.LintRequest(
        artifact=result.artifact, contract=result.contract, photos=images, options=options, checks=result.checks
    )
    return op_lint.record(target.load(target.op_lint)(request))


def _float_net(checkpoint: Checkpoint, contract: Contract) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The float net on one (h, w, 3) float32 image in 0..255, not rounded to 8 bits."""
    import torch

    from datk.models.deployment import deployment_module

    net = deployment_module(checkpoint.net, contract.input_size, "nchw_float")

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            depth: NDArray[np.float32] = net(torch.from_numpy(image).permute(2, 0, 1)[None].contiguous())[0].numpy()
        return depth  # (h, w)

    return run
