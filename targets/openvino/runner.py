"""Run a saved IR in the OpenVINO runtime on this machine's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datk.depth.io_spec import Contract
from datk.depth.runner import DepthMap, ImageU8, check_bucket_image
from datk.errors import EnvironmentLacks, TargetError

MAX_THREADS = 2
IN_FLOAT: dict[str, Any] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "LP_TRANSFORMS_MODE": False,
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}
"""Every rounding the file asks for and no other: quantised layers are multiplied in float32, floats stay float32."""
AS_AN_APP: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
"""OpenVINO chooses: integer kernels, and bfloat16 where the CPU has it."""


def open_artifact(artifact: Path, contract: Contract) -> OpenVinoRunner:
    """A runner that computes what the file says, whatever kernels this CPU has.

    Integer kernels on x86 CPUs without VNNI add pairs of products in 16 bits and saturate, which would blame the
    artifact for the machine. Raises DataError, TargetError, or EnvironmentLacks without OpenVINO.
    """
    return OpenVinoRunner(artifact, contract, config=IN_FLOAT)


def open_for_latency(artifact: Path, contract: Contract) -> OpenVinoRunner:
    """The runner as an app sets it up. Raises as open_artifact does."""
    return OpenVinoRunner(artifact, contract, config=AS_AN_APP)


class OpenVinoRunner:
    """A Runner over OpenVINO's CPU plugin."""

    def __init__(self, artifact: Path, contract: Contract, *, config: dict[str, Any]) -> None:
        self.name = f"openvino {contract.precision}"
        quantised = contract.precision == "int8"
        self.label = "openvino-cpu-int8-in-float" if quantised and config is IN_FLOAT else "openvino-cpu"
        self.input_size = contract.input_size
        self.depth_kind = contract.depth_kind
        self._request: Any = compiled(artifact, contract, config).create_infer_request()

    def predict(self, image: ImageU8) -> DepthMap:
        """image: (h, w, 3) uint8 RGB of input_size. Returns (h, w) float32. Raises DataError."""
        check_bucket_image(image, self.input_size)
        if self._request is None:
            raise TargetError(f"{self.name}: the runner is closed")
        found = self._request.infer([np.ascontiguousarray(image)[None]])
        return np.array(found[0][0], dtype=np.float32)  # a copy: the request reuses its memory

    def close(self) -> None:
        """Free the compiled model. Safe to call twice."""
        self._request = None


def compiled(artifact: Path, contract: Contract, config: dict[str, Any]) -> Any:
    """The artifact compiled for this CPU, at most MAX_THREADS threads, its edges held to the contract.

    Raises EnvironmentLacks without OpenVINO, DataError, TargetError.
    """
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise EnvironmentLacks("OpenVINO is not installed here", hint='pip install "datk[openvino]"') from error
    from datk.targets.openvino.ir import contract_inside, load

    model = load(artifact)
    inside = contract_inside(model)
    if inside is not None and inside.edges != contract.edges:
        raise TargetError(
            f"{artifact}: the file says {inside.precision}, {inside.signature}; "
            f"its contract says {contract.precision}, {contract.signature}",
            hint="the artifact and its contract.json belong to different exports",
        )
    found = [(tuple(p.shape), p.element_type.to_dtype().name) for p in (*model.inputs, *model.outputs)]
    expected = [(spec.shape, spec.dtype) for spec in (contract.input, contract.output)]
    if found != expected:
        raise TargetError(
            f"{artifact}: its edges are {found}, the contract says {expected}",
            hint="the artifact and its contract.json belong to different exports",
        )
    return compile_on_cpu(model, config, name=str(artifact))


def compile_on_cpu(model: Any, config: dict[str, Any], *, name: str) -> Any:
    """An openvino.Model compiled by the CPU plugin. Raises TargetError in its words."""
    from datk.targets.openvino.ir import core, first_line

    try:
        return core().compile_model(model, "CPU", {**config, "INFERENCE_NUM_THREADS": MAX_THREADS})
    except RuntimeError as error:
        raise TargetError(f"{name}: OpenVINO's CPU plugin cannot run it: {first_line(error)}") from error
