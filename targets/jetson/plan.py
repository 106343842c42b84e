"""build_plan.json: all a device needs to know to build the engine and to tell whether it is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datk.artifact.files import sha256_file
from datk.depth.io_spec import Contract
from datk.targets.known_bad import table

TENSORRT_MINIMUM = "10.3"
"""JetPack 6.1's and 6.2's, the first TensorRT 10 on Orin; older parsers were not tried."""

SUSPECT = ("10.3", "10.4")
"""Versions reported to give wrong answers with DINOv2 and DINOv3 nets: the row tensorrt-dinov2 of known_bad.yaml, as
the device compares it. The golden comparison decides."""

GATES = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.98}
"""Least correlation with the golden depth maps (computed in float32 on the host), by precision."""

WEAK = "model_opset17.onnx"
"""What TensorRT 8.6 builds from."""
NOT_RUN = "not run here: no such TensorRT was at hand"


@dataclass(frozen=True)
class Line:
    """One line of TensorRT versions and how it is told to build."""

    least: str
    below: str | None
    comes_with: str
    strongly_typed: bool
    """Types as they stand in the file; else float32 in the file, and flags that allow less."""


LINES = (
    Line("8.6", "9", "JetPack 6.0 (8.6.2); JetPack 5 has 8.5, which knows no LayerNormalization", False),
    Line(TENSORRT_MINIMUM, "11", "JetPack 6.1 or newer (Orin)", True),
    Line("11", None, "no JetPack yet; strongly typed is all it knows", True),
)
FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}
"""Of the weakly typed builder, by precision: trt.BuilderFlag, and trtexec's in small letters."""


def build_plan(
    model: Path,
    contract: Contract,
    *,
    engine: str,
    golden: str | None,
    weak: Path | str,
    layers: str | None = None,
    float32_nodes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The plan as JSON values.

    model lies beside the plan; golden is the file with inputs and expected depths, layers the one with samples of
    tensors. weak: the file for TensorRT 8.6, or why there is none. float32_nodes: what it keeps in float32 there.
    """
    return {
        "schema_version": 2,
        "precision": contract.precision,
        "lines": [_line(line, model, weak, contract, engine, float32_nodes) for line in LINES],
        "suspect": list(SUSPECT),
        "known_bad": [
            {"versions": r.versions, "symptom": r.symptom, "advice": r.advice, "sources": list(r.sources)}
            for r in table()
            if r.tool == "tensorrt" and (not r.precisions or contract.precision in r.precisions)
        ],
        "parser_judged_here": "tensorrt_rtx, SM86; see the manifest's check tensorrt-rtx-build",
        "engine": engine,
        "input": contract.input.model_dump(mode="json"),
        "output": contract.output.model_dump(mode="json"),
        "depth_kind": str(contract.depth_kind),
        "larger_is": contract.larger_is,
        "golden": golden,
        "least_correlation": GATES[contract.precision],
        "layers": layers,
    }


def _line(
    line: Line, model: Path, weak: Path | str, contract: Contract, engine: str, float32_nodes: tuple[str, ...]
) -> dict[str, Any]:
    """One row of the table: which versions, which file, which flags."""
    file = model if line.strongly_typed else weak
    name = file.name if isinstance(file, Path) else None
    flags = () if line.strongly_typed else FLAGS[contract.precision]
    kept = float32_nodes if "FP16" in flags else ()
    words = ["trtexec", f"--onnx={name}", f"--saveEngine={engine}", "--useSpinWait"]
    if line.strongly_typed and line.least != "11":
        words.insert(2, "--stronglyTyped")
    words += [f"--{flag.lower()}" for flag in flags]
    if kept:
        words += ["--precisionConstraints=obey", f"--layerPrecisions={','.join(f'{n}:fp32' for n in kept)}"]
    return {
        "least": line.least,
        "below": line.below,
        "comes_with": line.comes_with,
        "model": name,
        "model_sha256": sha256_file(file) if isinstance(file, Path) else None,
        "why_none": file if isinstance(file, str) else None,
        "strongly_typed": line.strongly_typed,
        "flags": list(flags),
        "float32_nodes": list(kept),
        "trtexec": " ".join(words) if name else None,
        "status": NOT_RUN,
    }
