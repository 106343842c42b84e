"""Run a .tflite artifact in the real LiteRT runtime on this machine's CPU."""

from __future__ import annotations

import importlib
import importlib.util
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from datk.depth.io_spec import Contract
from datk.depth.runner import DepthMap, ImageU8, check_bucket_image
from datk.errors import DataError, EnvironmentLacks, TargetError
from datk.targets.tflite.flatbuffer import read_metadata
from datk.targets.tflite.quiet import native_output_to

RUNTIMES = (("ai_edge_litert.interpreter", "ai-edge-litert"), ("tflite_runtime.interpreter", "tflite-runtime"))
"""Module and distribution, in order of preference; the second is the small one for devices."""
MAX_THREADS = 4


def open_artifact(artifact: Path, contract: Contract, *, threads: int | None = None) -> LiteRtRunner:
    """A runner for a .tflite file.

    threads: of LiteRT's kernels; None means the cores this process may use, at most 4. Raises
    EnvironmentLacks without a runtime, DataError when the file is missing or no .tflite file,
    TargetError when LiteRT cannot load it or it is not what contract says.
    """
    return LiteRtRunner(artifact, contract, threads=threads or default_threads())


def default_threads() -> int:
    """Cores this process may use, at most 4: phones and boards have four fast ones."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_THREADS)


class LiteRtRunner:
    """A Runner over LiteRT's interpreter.

    `runtime` names the package that runs it, `delegate` what LiteRT handed the graph to: normally
    XNNPACK; "none, ..." when that did not apply and the plain kernels run instead.
    """

    label = "litert-cpu"

    def __init__(self, artifact: Path, contract: Contract, *, threads: int) -> None:
        self.name = f"tflite {contract.precision}"
        self.input_size = contract.input_size
        self.depth_kind = contract.depth_kind
        self.threads = threads
        self._scale, self._zero_point = contract.output.scale, contract.output.zero_point
        _check_metadata(artifact, contract)
        module, self.runtime = _runtime()
        self._interpreter: Any = _load(module, artifact, threads)
        if contract.entry:
            self._call = _entry(self._interpreter, artifact, contract)
        else:
            self._call = _whole(self._interpreter, artifact, contract)
        self.delegate = _delegate(self._interpreter)

    def predict(self, image: ImageU8) -> DepthMap:
        """image: (h, w, 3) uint8 RGB of input_size. Returns (h, w) float32. Raises DataError."""
        check_bucket_image(image, self.input_size)
        if self._interpreter is None:
            raise TargetError(f"{self.name}: the runner is closed")
        depth = np.asarray(self._call(np.ascontiguousarray(image)[None])[0], dtype=np.float32)  # a copy
        if self._scale is not None and self._zero_point is not None:
            depth = (depth - np.float32(self._zero_point)) * np.float32(self._scale)
        return depth

    def close(self) -> None:
        """Free the interpreter. Safe to call twice."""
        self._interpreter = self._call = None


def _runtime() -> tuple[Any, str]:
    for module, distribution in RUNTIMES:
        if importlib.util.find_spec(module.split(".")[0]) is None:
            continue
        loaded = importlib.import_module(module)
        try:
            return loaded, f"{distribution} {version(distribution)}"
        except PackageNotFoundError:
            return loaded, distribution
    raise EnvironmentLacks(
        "no LiteRT runtime is installed here",
        hint='pip install "datk[tflite]"   (on a device ai-edge-litert or tflite-runtime is enough)',
    )


def _check_metadata(artifact: Path, contract: Contract) -> None:
    """Raise TargetError when the file carries another contract; DataError when it is no .tflite file."""
    if not artifact.is_file():
        raise DataError(f"{artifact}: no such file")
    text = read_metadata(artifact).get(".".join(filter(None, ("datk.contract", contract.entry))))
    if text is None:
        return
    inside = Contract.model_validate_json(text)
    one, other = inside.edges, contract.edges
    if differing := [key for key in Contract.model_fields if getattr(one, key) != getattr(other, key)]:
        raise TargetError(
            f"{artifact}: the file says {inside.precision}, {inside.signature}; "
            f"its contract says {contract.precision}, {contract.signature}: they differ in {', '.join(differing)}",
            hint="the artifact and its contract.json belong to different exports",
        )


def _load(module: Any, artifact: Path, threads: int) -> Any:
    try:
        with native_output_to(None):
            interpreter = module.Interpreter(model_path=str(artifact), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise TargetError(f"{artifact}: LiteRT cannot load it: {error}", hint="export it again") from error
    return interpreter


def _whole(interpreter: Any, artifact: Path, contract: Contract) -> Any:
    """(1, h, w, 3) -> (1, h, w) by the file's one graph. Raises TargetError unless its edges are the contract's."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    _check_edges(inputs, outputs, artifact, contract)

    def call(pixels: Any) -> Any:
        interpreter.set_tensor(inputs[0]["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(outputs[0]["index"])  # copies

    return call


def _entry(interpreter: Any, artifact: Path, contract: Contract) -> Any:
    """As _whole, by the signature that the contract names for its size."""
    if contract.entry not in (known := interpreter.get_signature_list()):
        raise TargetError(
            f"{artifact}: has no signature {contract.entry}, it has {', '.join(known) or 'none'}",
            hint="the artifact and its contract.json belong to different exports",
        )
    runner = interpreter.get_signature_runner(contract.entry)
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    _check_edges(list(inputs.values()), list(outputs.values()), artifact, contract)
    source, result = next(iter(inputs)), next(iter(outputs))
    return lambda pixels: runner(**{source: pixels})[result]


def _check_edges(inputs: list[Any], outputs: list[Any], artifact: Path, contract: Contract) -> None:
    """Raise TargetError unless the tensors at the edges are the contract's."""
    for details, spec in ((inputs, contract.input), (outputs, contract.output)):
        found = [(tuple(int(side) for side in d["shape"]), np.dtype(d["dtype"]).name) for d in details]
        if found != [(spec.shape, spec.dtype)]:
            raise TargetError(
                f"{artifact}: expected one tensor {spec.name} {spec.shape} {spec.dtype}, found {found}",
                hint="the artifact and its contract.json belong to different exports",
            )
    inside = tuple(outputs[0]["quantization"])  # (0.0, 0) where it is not quantised
    if inside != (said := (contract.output.scale or 0.0, contract.output.zero_point or 0)):
        raise TargetError(
            f"{artifact}: its output has (scale, zero point) {inside}, the contract says {said}",
            hint="the artifact and its contract.json belong to different exports",
        )


def _delegate(interpreter: Any) -> str:
    """What the interpreter's plan says it runs on, in words."""
    list_operators = getattr(interpreter, "_get_ops_details", None)
    if list_operators is None:
        return "unknown: this runtime does not list its operators"
    parts = sum(op["op_name"] == "DELEGATE" for op in list_operators())
    return f"XNNPACK, {parts} parts" if parts else "none, LiteRT's plain kernels: XNNPACK did not apply"
