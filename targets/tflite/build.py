"""Compile for LiteRT: fp32, fp16 (half-precision weights, float arithmetic) or int8 (NNCF's program)."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule

from datk.artifact.files import atomic_path
from datk.depth.io_spec import Contract, contract_for
from datk.errors import TargetError
from datk.models.passes.safe_layer_norm import with_safe_layer_norms
from datk.targets import int8_record
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.chatter import sdk_chatter_off
from datk.targets.int8_layers import Int8Layer, program_layers
from datk.targets.pt2e import LinearConvQuantizer, layer_name
from datk.targets.tflite import int8_output
from datk.targets.tflite.flatbuffer import finish
from datk.targets.tflite.kept_axes import keep_axes
from datk.targets.tflite.lint import INTEGER_WEIGHTS, Layer, lint_float, lint_int8, lint_weights
from datk.targets.tflite.quiet import native_output_to
from datk.targets.tflite.runner import open_artifact
from datk.targets.tflite.scheme import scheme

ARTIFACT = "model.tflite"
LOG = "conversion.log"
"""The converter's own talk, beside the artifact; not part of what is shipped."""
NOT_IN_TFLITE_RUNTIME = ("int8-dynamic",)
"""Refused by the last tflite-runtime, 2.14: no TRANSPOSE_CONV of float data with int8 weights. With those weights
unpacked it loads and answers 0.6 times the right map: so refused it stays."""


def build(request: BuildRequest) -> BuildResult:
    """Write request.out/model.tflite: (1, h, w, 3) uint8 RGB in, (1, h, w) float32 (or int8, by option) out.

    Checks: `int8-scheme` or `weights` (what the saved file stores and runs), `runtime` (LiteRT loads and
    runs it), `conversion` (seconds, peak memory). Raises TargetError with the converter's own words.
    """
    contract = contract_for(
        input_size=request.input_size,
        depth_kind=request.depth_kind,
        precision=request.precision,
        max_depth_m=request.max_depth_m,
        arithmetic="float32, weights stored as float16" if request.precision == "fp16" else None,
    )
    layers, quantizer = None, None
    if request.precision == "int8":
        quantizer = (request.scheme or scheme()).quantizer
        layers = (*quantised_layers(request.module, quantizer), *_numbers(request.module, quantizer))
    started = time.perf_counter()
    for_gpu = bool(getattr(request.options, "gpu", False))
    module = with_safe_layer_norms(request.module) if for_gpu else request.module
    content = convert(module, request.input_size, log=request.out / LOG, quantizer=quantizer)
    if for_gpu:
        content = keep_axes(content)
    if request.precision == "fp16":
        content = half_precision_weights(content, log=request.out / LOG)
    if request.precision in INTEGER_WEIGHTS:
        content = integer_weights(content, request.precision, log=request.out / LOG)
    levels: dict[str, dict[str, Any]] = {}
    if getattr(request.options, "output", "float32") == "int8":
        content, contract, levels[int8_output.CHECK] = _in_levels(content, contract, request)
    content = finish(
        content,
        input_name=contract.input.name,
        output_name=contract.output.name,
        metadata={**request.metadata, "datk.contract": contract.model_dump_json()},
    )
    seconds = time.perf_counter() - started
    artifact = request.out / ARTIFACT
    with atomic_path(artifact) as part:
        part.write_bytes(content)
    checks = {
        **_lint(artifact, request.precision, layers, contract.output.dtype),
        **levels,
        "runtime": check_runtime(artifact, contract),
        "conversion": {
            "status": "passed",
            "detail": f"converted in {seconds:.0f} s",
            "seconds": round(seconds, 1),
            "peak_memory_mib": _peak_memory_mib(),
        },
    }
    return BuildResult(artifact=artifact, contract=contract, extra_files=(request.out / LOG,), checks=checks)


def _in_levels(content: bytes, contract: Contract, request: BuildRequest) -> tuple[bytes, Contract, dict[str, Any]]:
    """File and contract with an int8 output, and the check that says what its levels are worth."""
    largest = None
    if (top := request.max_depth_m) is None:
        largest = int8_output.largest_answer(content, request.photos, log=request.out / LOG)
        top = int8_output.ROOM * largest
    scale = int8_output.scale_of(top)
    contract = int8_output.told(contract, scale)
    return (
        int8_output.with_int8_output(content, scale),
        contract,
        int8_output.record(contract, largest, len(request.photos)),
    )


def convert(
    module: torch.nn.Module, input_size: tuple[int, int], *, log: Path, quantizer: LinearConvQuantizer | None
) -> bytes:
    """Deployment module, or the program NNCF quantised with `quantizer`, -> the bytes of a .tflite file.

    module takes (1, h, w, 3) uint8. The converter's talk goes to log. Raises TargetError.
    """
    example = torch.zeros((1, *input_size, 3), dtype=torch.uint8)
    with _sdk_errors(log, "LiteRT's converter"), torch.no_grad():
        import litert_torch
        from litert_torch.quantize.quant_config import QuantConfig

        quant_config = QuantConfig(pt2e_quantizer=quantizer) if quantizer is not None else None
        converted = litert_torch.convert(module, (example,), quant_config=quant_config)
        return bytes(converted.model_content())


def half_precision_weights(content: bytes, *, log: Path) -> bytes:
    """Store the weights of linears and convolutions as float16; activations and arithmetic stay float32.

    XNNPACK unpacks them when the file is loaded. A GPU or NPU may compute in half precision instead.
    Raises TargetError.
    """
    with _sdk_errors(log, "LiteRT's quantizer"):
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer  # type: ignore[import-untyped]

        weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        editor = quantizer.Quantizer(bytearray(content))
        editor.update_quantization_recipe(
            regex=".*",
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=weights,
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING,
        )
        with log.open("a", encoding="utf-8") as story, redirect_stderr(story):  # its own progress bars
            return bytes(editor.quantize().quantized_model)


def integer_weights(content: bytes, precision: str, *, log: Path) -> bytes:
    """Store the weights as int8 per output channel; activations are float in the file.

    int8-weights: LiteRT unpacks them and computes in float. int8-dynamic: each activation is quantised while the net
    runs, by its own range, and the product is computed in int8. Raises TargetError.
    """
    with _sdk_errors(log, "LiteRT's quantizer"):
        from ai_edge_quantizer import quantizer, recipe  # type: ignore[import-untyped]

        chosen = recipe.dynamic_wi8_afp32() if precision == "int8-dynamic" else recipe.weight_only_wi8_afp32()
        editor = quantizer.Quantizer(bytearray(content), chosen)
        with log.open("a", encoding="utf-8") as story, redirect_stderr(story):  # its own progress bars
            return bytes(editor.quantize().quantized_model)


def quantised_layers(program: torch.nn.Module, quantizer: LinearConvQuantizer) -> tuple[list[Layer], list[str]]:
    """What the scheme wants in int8, and which of those layers the program does not quantise.

    program: NNCF's quantised module. quantizer: what it was quantised with. Returns (wanted layers, names of those with
    a plain float weight).
    Raises TargetError when program is not an exported program at all.
    """
    if not isinstance(program, GraphModule):
        raise TargetError(
            f"int8 needs NNCF's quantised program, got a plain {type(program).__name__}",
            hint="quantise first: datk quantize, or datk export --precision int8",
        )
    wanted = set(quantizer.selected(program))
    layers: list[Layer] = []
    plain: list[str] = []
    for node in program.graph.nodes:
        if node.op != "call_function" or ("linear" not in str(node.target) and "conv2d" not in str(node.target)):
            continue
        name = layer_name(node)
        if name not in wanted:
            continue
        weight = node.args[1]
        depthwise = "conv2d" in str(node.target) and len(node.args) > 6 and node.args[6] != 1
        layers.append(Layer.from_torch(name, tuple(_weight_shape(program, weight)), depthwise=depthwise))
        if "dequantize" not in str(weight.target):
            plain.append(name)
    return layers, plain


def _numbers(program: torch.nn.Module, quantizer: LinearConvQuantizer) -> tuple[list[Int8Layer], int]:
    """What the weights and input scales of a quantised program are worth, and how many of its adds are quantised."""
    assert isinstance(program, GraphModule)
    return program_layers(program), len(quantizer.adds(program))


def check_runtime(artifact: Path, contract: Contract) -> dict[str, Any]:
    """Load the saved file in LiteRT, run it once on a grey ramp: finite, and by which delegate."""
    runner = open_artifact(artifact, contract)
    h, w = contract.input_size
    ramp = np.linspace(0, 255, h * w * 3).reshape(h, w, 3).astype(np.uint8)
    try:
        finite = bool(np.isfinite(runner.predict(ramp)).all())
    finally:
        runner.close()
    runs_in = ["ai-edge-litert", *([] if contract.precision in NOT_IN_TFLITE_RUNTIME else ["tflite-runtime"])]
    return {
        "status": "passed" if finite else "failed",
        "detail": f"{runner.runtime}, {runner.delegate}" + ("" if finite else ": the output is not finite"),
        "runtime": runner.runtime,
        "runs_in": runs_in,
        "delegate": runner.delegate,
        "threads": runner.threads,
    }


Meant = tuple[list[Layer], list[str], list[Int8Layer], int]
"""Layers the scheme selects, those of them left in float, the quantised ones' numbers, and how many adds it selects."""


def _lint(artifact: Path, precision: str, layers: Meant | None, output: str) -> dict[str, dict[str, Any]]:
    if precision in INTEGER_WEIGHTS:
        return {"compressed-weights": lint_weights(artifact, precision)}
    if layers is None:
        return {"weights": lint_float(artifact, precision, output=output)}
    wanted, plain, numbers, adds = layers
    said = lint_int8(artifact, wanted, not_quantised=plain, program=numbers, adds=adds, output=output)
    return {int8_record.NAME: said}


def _weight_shape(program: GraphModule, node: Any) -> torch.Size:
    """Shape of the parameter at the start of a weight's quantize-dequantize chain."""
    while node.op == "call_function":
        node = node.args[0]
    value: Any = program
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return torch.Size(value.shape)


def _peak_memory_mib() -> int:
    """Highest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)


@contextlib.contextmanager
def _sdk_errors(log: Path, who: str) -> Iterator[None]:
    """Quiet while the block runs; the SDK's exceptions become a TargetError that carries their words."""
    try:
        with native_output_to(log), sdk_chatter_off() as printed:
            try:
                yield
            finally:
                with log.open("a", encoding="utf-8") as handle:
                    handle.write(printed.getvalue())
    except (RuntimeError, ValueError, TypeError, NotImplementedError, LookupError, AttributeError) as error:
        words = str(error).strip() or type(error).__name__
        raise TargetError(f"{who} refused the net: {words}", hint=f"its full output: {log}") from error
    except Exception as error:
        if type(error).__name__ != "MLIRError":  # a class without an importable, documented home
            raise
        raise TargetError(f"{who} refused the net: {error}", hint=f"its full output: {log}") from error
