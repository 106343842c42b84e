"""build_plan.json: all a device needs to know to build the engine and to tell whether it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datk.artifact.files import sha256_file
from datk.depth.io_spec import Contract

TENSORRT_MINIMUM = "10.3"
"""JetPack 6.1's and 6.2's, the first TensorRT 10 on Orin; older parsers were not tried."""

SUSPECT = ("10.3", "10.4")
"""Versions reported to give wrong answers with DINOv2 and DINOv3 nets: NVIDIA/TensorRT#4723 and #4742,
spacewalk01/depth-anything-tensorrt#49. The golden comparison decides."""

GATES = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98}
"""Least correlation with the golden depth maps (computed in float32 on the host), by precision."""


def build_plan(model: Path, contract: Contract, *, engine: str, golden: str | None) -> dict[str, Any]:
    """The plan as JSON values. model lies beside the plan; golden is the file with inputs and expected depths."""
    return {
        "schema_version": 1,
        "model": model.name,
        "model_sha256": sha256_file(model),
        "precision": contract.precision,
        "strongly_typed": True,
        "tensorrt": {
            "minimum": TENSORRT_MINIMUM,
            "suspect": list(SUSPECT),
            "comes_with": "JetPack 6.1 or newer (Orin)",
            "parser_judged_here": "tensorrt_rtx, SM86; see the manifest's check tensorrt-rtx-build",
        },
        "engine": engine,
        "trtexec": f"trtexec --onnx={model.name} --stronglyTyped --saveEngine={engine} --useSpinWait",
        "input": contract.input.model_dump(mode="json"),
        "output": contract.output.model_dump(mode="json"),
        "depth_kind": str(contract.depth_kind),
        "larger_is": contract.larger_is,
        "golden": golden,
        "least_correlation": GATES[contract.precision],
    }
