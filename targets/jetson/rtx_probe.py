"""Run as a program: parse and build an ONNX file with tensorrt_rtx, write what it said as JSON.

    python rtx_probe.py MODEL.onnx RESULT.json [ENGINE [SM75,...]]

A program of its own because the library writes to the terminal and could take the process down.
Needs no GPU. Without ENGINE it builds for SM86 (Ampere), the nearest it knows to Orin (SM87), and keeps nothing; with
ENGINE for every compute capability it knows but those named last, in one file.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

NEAREST_TO_ORIN = ["SM86"]


def probe(model: bytes, engine_file: Path | None = None, left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Parse into a strongly typed network and build. Returns ok, errors, engine_bytes, capabilities and versions."""
    import tensorrt_rtx as trt

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    log = Log()
    started = time.perf_counter()
    known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    wanted = NEAREST_TO_ORIN if engine_file is None else [name for name in known if name not in left_out]
    result: dict[str, Any] = {
        "ok": False,
        "version": trt.__version__,
        "compute_capabilities": wanted,
        "errors": [],
    }
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        return {**result, "stage": "parse", "errors": [str(parser.get_error(i)) for i in range(parser.num_errors)]}
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(wanted)
    for index, name in enumerate(wanted):
        if not config.set_compute_capability(trt.ComputeCapability.__members__[name], index):
            return {**result, "stage": "configure", "errors": [f"compute capability {name} was refused", *log.errors]}
    engine = builder.build_serialized_network(network, config)
    result["seconds"] = round(time.perf_counter() - started, 3)
    if engine is None:
        return {**result, "stage": "build", "errors": log.errors}
    if engine_file is not None:
        engine_file.write_bytes(engine)
    return {
        **result,
        "ok": True,
        "stage": "build",
        "engine_bytes": engine.nbytes,
        "layers": network.num_layers,
        "inputs": [_described(network.get_input(i)) for i in range(network.num_inputs)],
        "outputs": [_described(network.get_output(i)) for i in range(network.num_outputs)],
    }


def _described(tensor: Any) -> list[Any]:
    return [tensor.name, str(tensor.dtype).removeprefix("DataType."), list(tensor.shape)]


if __name__ == "__main__":
    kept = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    without = tuple(sys.argv[4].split(",")) if len(sys.argv) > 4 else ()
    Path(sys.argv[2]).write_text(json.dumps(probe(Path(sys.argv[1]).read_bytes(), kept, without)), encoding="utf-8")
