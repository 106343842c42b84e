"""The tflite target, with the real converter and the real LiteRT runtime, on a one-block toy net."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datk.depth.io_spec import Contract, DepthKind, contract_for
from datk.errors import DataError, TargetError
from datk.quantize.ptq import quantize_module
from datk.targets import get
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.int8_layers import program_layers
from datk.targets.op_lint import LintRequest, record
from datk.targets.pt2e import LinearConvQuantizer, QuantScheme
from datk.targets.tflite import build as tflite_build
from datk.targets.tflite.build import build, convert, half_precision_weights, integer_weights, quantised_layers
from datk.targets.tflite.flatbuffer import finish, parse, read_metadata, serialise
from datk.targets.tflite.kept_axes import keep_axes
from datk.targets.tflite.lint import Layer, lint_float, lint_int8, lint_weights
from datk.targets.tflite.op_lint import findings_of, read_operators
from datk.targets.tflite.op_lint import lint as lint_operators
from datk.targets.tflite.options import Options
from datk.targets.tflite.runner import open_artifact
from datk.targets.tflite.scheme import scheme

SIZE = (28, 42)
DIM = 24


class ToyBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.fc1, self.fc2 = nn.Linear(DIM, 2 * DIM), nn.Linear(2 * DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.reshape(1, -1, 2, DIM // 2).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(DIM, -1))
        weights = torch.softmax(torch.matmul(q, k.transpose(2, 3)) * 0.3, dim=-1)
        x = x + self.proj(torch.matmul(weights, v).transpose(1, 2).reshape(1, -1, DIM))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ToyUnit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(F.relu(x)))) + x


class ToyDepth(nn.Module):
    """DINOv2 and DPT in miniature: every operator the real net has, one of each."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, DIM, 14, stride=14)
        self.block = ToyBlock()
        self.project, self.resize = nn.Conv2d(DIM, 8, 1), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.layer_rn = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.refinenet4 = nn.ModuleDict({"resConfUnit2": ToyUnit()})
        self.output_conv1 = nn.Conv2d(8, 6, 3, padding=1)
        self.output_conv2 = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image.permute(0, 3, 1, 2).to(torch.float32) / 64 - 2)
        x = self.block(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(1, DIM, SIZE[0] // 14, SIZE[1] // 14)
        x = self.refinenet4["resConfUnit2"](self.layer_rn(self.resize(self.project(x))))
        x = self.output_conv1(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))
        x = F.interpolate(x, size=SIZE, mode="bilinear", align_corners=True)
        return F.relu(self.output_conv2(x) + 2).squeeze(1)


def photos(count: int) -> list[np.ndarray]:
    """Smooth random colour images, (28, 42, 3) uint8."""
    rng = np.random.default_rng(7)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, 4, 6))).float()
    smooth = F.interpolate(coarse, size=SIZE, mode="bilinear", align_corners=True)
    return list(smooth.permute(0, 2, 3, 1).round().to(torch.uint8).numpy())


@dataclass
class Built:
    net: nn.Module
    program: torch.fx.GraphModule
    fp32: BuildResult
    int8: BuildResult


def request(module: nn.Module, precision: str, out: Path) -> BuildRequest:
    return BuildRequest(
        module=module,
        precision=precision,
        input_size=SIZE,
        depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
        metadata={"datk.source": "toy ü"},
        out=out,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    torch.manual_seed(0)
    net = ToyDepth().eval().requires_grad_(False)
    program = quantize_module(net, photos(6), scheme(), input_form="nhwc_uint8", input_size=SIZE, seed=0)
    fp32 = build(request(net, "fp32", tmp_path_factory.mktemp("fp32")))
    return Built(net, program, fp32, build(request(program, "int8", tmp_path_factory.mktemp("int8"))))


def correlation(built: Built, artifact: Path, contract: Contract) -> list[float]:
    runner = open_artifact(artifact, contract, threads=1)
    found = []
    for image in photos(6):
        with torch.no_grad():
            expected = built.net(torch.from_numpy(image)[None]).numpy()[0]
        answer = runner.predict(image)
        assert answer.shape == SIZE and answer.dtype == np.float32
        found.append(float(np.corrcoef(answer.ravel(), expected.ravel())[0, 1]))
    runner.close()
    return found


def test_litert_computes_what_torch_computes_in_fp32(built: Built) -> None:
    assert min(correlation(built, built.fp32.artifact, built.fp32.contract)) > 0.999999
    assert built.fp32.checks["weights"]["status"] == "passed"


def test_half_precision_weights_are_stored_as_such_and_run(built: Built, tmp_path: Path) -> None:
    path = tmp_path / "half.tflite"
    path.write_bytes(serialise(parse(half_precision_weights(built.fp32.artifact.read_bytes(), log=tmp_path / "log"))))
    contract = built.fp32.contract
    assert min(correlation(built, path, contract)) > 0.9999
    assert lint_float(path, "fp16")["status"] == "passed"
    assert lint_float(path, "fp32")["status"] == "failed"
    assert path.stat().st_size < built.fp32.artifact.stat().st_size


@pytest.mark.parametrize(("precision", "other"), [("int8-weights", "int8-dynamic"), ("int8-dynamic", "int8-weights")])
def test_integer_weights_are_stored_per_channel_and_run(
    built: Built, tmp_path: Path, precision: str, other: str
) -> None:
    path = tmp_path / "small.tflite"
    small = integer_weights(built.fp32.artifact.read_bytes(), precision, log=tmp_path / "log")
    path.write_bytes(serialise(parse(small)))
    assert min(correlation(built, path, built.fp32.contract)) > 0.99
    found = lint_weights(path, precision)
    assert found["status"] == "passed" and found["int8_weight_bytes"] > 0
    assert f"not {other}" in lint_weights(path, other)["detail"]
    assert "weights that are not int8" in lint_weights(built.fp32.artifact, precision)["detail"]
    assert path.stat().st_size < built.fp32.artifact.stat().st_size


def test_int8_file_runs_in_litert_close_to_the_float_net(built: Built) -> None:
    found = correlation(built, built.int8.artifact, built.int8.contract)
    assert np.median(found) > 0.98 and min(found) > 0.95


def test_every_wanted_layer_runs_in_int8_and_the_rest_in_float(built: Built) -> None:
    check = built.int8.checks["int8-scheme"]
    assert check["status"] == "passed", check["detail"]
    assert check["meant"] == 8  # 4 linears; project, layer_rn, conv1, output_conv1
    assert check["int8_ops"] == {"CONV_2D": 4, "FULLY_CONNECTED": 4, "TRANSPOSE_CONV": 1}
    assert check["float_ops"] == {"CONV_2D": 4}  # patch embedding, conv2 of the coarsest unit, last two
    assert not {"ADD", "SOFTMAX", "BATCH_MATMUL", "MEAN", "RSQRT"} & set(check["int8_besides"])


def test_lint_names_layers_stored_in_float(built: Built) -> None:
    wanted, plain = quantised_layers(built.program, scheme().quantizer)
    assert not plain
    check = lint_int8(built.fp32.artifact, wanted)
    assert check["status"] == "failed"
    assert "8 of 8 layers meant for int8 are stored or run in float" in check["detail"]
    assert "block.qkv" in check["detail"]


def test_lint_catches_one_float_weight_among_int8_ones(built: Built) -> None:
    wanted, _ = quantised_layers(built.program, scheme().quantizer)
    check = lint_int8(built.int8.artifact, [*wanted, Layer.from_torch("planted", (5, 7, 3, 3))])
    assert check["status"] == "failed" and "1 of 9" in check["detail"] and "planted" in check["detail"]


def test_lint_catches_a_layer_the_program_left_in_float(built: Built) -> None:
    wanted, _ = quantised_layers(built.program, scheme().quantizer)
    assert "fc1" in lint_int8(built.int8.artifact, wanted, not_quantised=["block.fc1"])["detail"]


@pytest.mark.parametrize("kind", ["ADD", "SOFTMAX", "BATCH_MATMUL", "MEAN"])
def test_lint_catches_a_planted_int8_operator(built: Built, tmp_path: Path, kind: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = parse(built.int8.artifact.read_bytes())
    graph = model.subgraphs[0]
    code = getattr(schema.BuiltinOperator, kind)
    op = next(o for o in graph.operators if model.operatorCodes[o.opcodeIndex].builtinCode == code)
    graph.tensors[op.outputs[0]].type = schema.TensorType.INT8
    planted = tmp_path / "planted.tflite"
    planted.write_bytes(serialise(model))
    check = lint_int8(planted, quantised_layers(built.program, scheme().quantizer)[0])
    assert check["status"] == "failed"
    assert "must stay in float" in check["detail"] and kind in check["detail"]


def test_lint_catches_one_scale_for_all_channels(built: Built, tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = parse(built.int8.artifact.read_bytes())
    graph = model.subgraphs[0]
    code = schema.BuiltinOperator.FULLY_CONNECTED
    op = next(o for o in graph.operators if model.operatorCodes[o.opcodeIndex].builtinCode == code)
    scales = graph.tensors[op.inputs[1]].quantization
    scales.scale, scales.zeroPoint = scales.scale[:1], scales.zeroPoint[:1]
    planted = tmp_path / "planted.tflite"
    planted.write_bytes(serialise(model))
    assert "one scale for all" in lint_int8(planted, quantised_layers(built.program, scheme().quantizer)[0])["detail"]


@pytest.mark.parametrize(("part", "words"), [(1, "weights are 2 times the program's"), (0, "scale of its input is 2")])
def test_lint_names_the_layer_whose_scale_is_off_by_two(built: Built, tmp_path: Path, part: int, words: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = parse(built.int8.artifact.read_bytes())
    graph = model.subgraphs[0]
    code = schema.BuiltinOperator.FULLY_CONNECTED
    ops = [o for o in graph.operators if model.operatorCodes[o.opcodeIndex].builtinCode == code]
    assert [graph.tensors[o.inputs[1]].shape.tolist() for o in ops][2] == [2 * DIM, DIM]  # fc1
    scales = graph.tensors[ops[2].inputs[part]].quantization
    scales.scale = scales.scale * 2
    planted = tmp_path / "planted.tflite"
    planted.write_bytes(serialise(model))
    check = lint_int8(
        planted, quantised_layers(built.program, scheme().quantizer)[0], program=program_layers(built.program)
    )
    assert check["status"] == "failed"
    assert [p.split(":")[0] for p in check["problems"]["scales"]] == ["block.fc1"] and words in check["detail"]


@pytest.mark.slow
def test_inputs_and_weights_alone_silently_stay_in_float_and_the_lint_says_so(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = ToyDepth().eval().requires_grad_(False)
    chosen = scheme()
    for quantizer, words in (
        (LinearConvQuantizer(quantize_outputs=False), "stored or run in float"),
        (LinearConvQuantizer(quantize_outputs=True), "must stay in float but touch int8: 1 ADD"),
    ):
        wrong = QuantScheme(quantizer=quantizer, fold_quantize=False, smooth_quant=False, bias_correction="fast")
        program = quantize_module(net, photos(6), wrong, input_form="nhwc_uint8", input_size=SIZE, seed=0)
        path = tmp_path / "wrong.tflite"
        path.write_bytes(convert(program, SIZE, log=tmp_path / "log", quantizer=chosen.quantizer))
        wanted = [
            layer
            for layer in quantised_layers(program, chosen.quantizer)[0]
            if layer.name in chosen.quantizer.selected(program)
        ]
        check = lint_int8(path, wanted)
        assert check["status"] == "failed" and words in check["detail"]


def test_contract_and_metadata_come_back_out_of_the_file(built: Built) -> None:
    found = read_metadata(built.int8.artifact)
    assert Contract.model_validate_json(found["datk.contract"]) == built.int8.contract
    assert found["datk.source"] == "toy ü"
    assert built.int8.contract.precision == "int8"
    assert (built.int8.contract.input.dtype, built.int8.contract.input.shape) == ("uint8", (1, *SIZE, 3))


def test_metadata_is_read_without_torch_or_an_sdk(built: Built) -> None:
    code = (
        "import sys, pathlib; from datk.targets.tflite.flatbuffer import read_metadata;"
        "print(read_metadata(pathlib.Path(sys.argv[1]))['datk.contract']);"
        "assert not {'torch', 'ai_edge_litert', 'flatbuffers'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}", str(built.fp32.artifact)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert Contract.model_validate_json(text) == built.fp32.contract


def test_edges_are_named_as_the_contract_says(built: Built) -> None:
    graph = parse(built.int8.artifact.read_bytes()).subgraphs[0]
    assert graph.tensors[graph.inputs[0]].name == b"image" and graph.tensors[graph.outputs[0]].name == b"depth"


def test_weights_lie_on_16_byte_boundaries(built: Built) -> None:
    content = built.fp32.artifact.read_bytes()
    whole = np.frombuffer(content, np.uint8)
    starts = [
        b.data.ctypes.data - whole.ctypes.data for b in parse(content).buffers if b.data is not None and len(b.data)
    ]
    assert starts and all(start % 16 == 0 for start in starts)


def test_finishing_the_same_bytes_twice_gives_the_same_bytes(built: Built) -> None:
    raw = built.fp32.artifact.read_bytes()
    once = finish(raw, input_name="image", output_name="depth", metadata={"b": "2", "a": "1"})
    assert once == finish(raw, input_name="image", output_name="depth", metadata={"a": "1", "b": "2"})


@pytest.mark.slow
def test_same_net_gives_the_same_file(built: Built, tmp_path: Path) -> None:
    for first, module in ((built.fp32, built.net), (built.int8, built.program)):
        again = build(request(module, first.contract.precision, tmp_path))
        assert again.artifact.read_bytes() == first.artifact.read_bytes()


def test_wrong_images_are_refused(built: Built) -> None:
    runner = open_artifact(built.fp32.artifact, built.fp32.contract)
    for wrong in (np.zeros((42, 28, 3), np.uint8), np.zeros((*SIZE, 3), np.float32), np.zeros((*SIZE, 4), np.uint8)):
        with pytest.raises(DataError, match="expected a uint8 RGB image"):
            runner.predict(wrong)
    runner.close()
    runner.close()
    with pytest.raises(TargetError, match="closed"):
        runner.predict(np.zeros((*SIZE, 3), np.uint8))


def test_runner_says_who_computed(built: Built) -> None:
    runner = open_artifact(built.fp32.artifact, built.fp32.contract, threads=1)
    assert (runner.label, runner.threads, runner.input_size) == ("litert-cpu", 1, SIZE)
    assert runner.delegate.startswith("XNNPACK") and runner.runtime.startswith(("ai-edge-litert", "tflite-runtime"))


def test_foreign_contract_is_refused(built: Built) -> None:
    other = contract_for(
        input_size=SIZE, depth_kind=DepthKind.DEPTH_METRIC_M, precision="fp32", max_depth_m=20.0, layout="NHWC"
    )
    with pytest.raises(TargetError, match="larger is farther"):
        open_artifact(built.fp32.artifact, other)


def test_missing_foreign_and_damaged_files_are_refused(built: Built, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_artifact(tmp_path / "none.tflite", built.fp32.contract)
    for content in (b"", b"not a model at all", b"\xff\xff\xff\x7fTFL3" + bytes(8)):
        broken = tmp_path / "broken.tflite"
        broken.write_bytes(content)
        with pytest.raises(DataError, match=r"broken\.tflite"):
            open_artifact(broken, built.fp32.contract)


def test_int8_without_a_quantised_program_is_refused(built: Built) -> None:
    with pytest.raises(TargetError, match="needs NNCF's quantised program"):
        quantised_layers(built.net, scheme().quantizer)


def test_int8_is_refused_before_anything_is_converted(built: Built, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="quantised program"):
        build(request(built.net, "int8", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_converter_words_are_passed_on_and_nothing_is_left(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litert_torch

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("aten.strange is not lowered")

    monkeypatch.setattr(litert_torch, "convert", refuse)
    with pytest.raises(TargetError, match=r"aten\.strange is not lowered"):
        build(request(built.net, "fp32", tmp_path))
    assert {p.name for p in tmp_path.iterdir()} <= {tflite_build.LOG}


def test_native_talk_goes_to_the_log_and_python_keeps_its_terminal(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from datk.targets.tflite.quiet import native_output_to\n"
        "with native_output_to(pathlib.Path(sys.argv[1])):\n"
        "    os.write(1, b'native one '); os.write(2, b'native two')\n"
        "    print('bar', file=sys.stderr); print('result')\n"
        "os.write(2, b'after')\n"
    )
    log = tmp_path / "log"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("result\n", "bar\nafter")
    assert log.read_text() == "native one native two"


def test_build_left_the_converters_talk_in_a_log_only(built: Built) -> None:
    assert (built.fp32.artifact.parent / tflite_build.LOG).stat().st_size > 0
    assert [f.name for f in built.fp32.extra_files] == ["conversion.log"]


def test_device_script_agrees_with_the_runner(built: Built, tmp_path: Path) -> None:
    script = Path(get("tflite").load(".build:build").__code__.co_filename).parent / "device" / "run_tflite.py"
    for number, image in enumerate(photos(2)):
        np.save(tmp_path / f"{number}.npy", image)
    command = [sys.executable, str(script), str(built.int8.artifact), str(tmp_path), "--out", str(tmp_path / "depths")]
    done = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["images"] == 2 and report["runs"] == 2 and report["latency_p50_ms"] > 0
    runner = open_artifact(built.int8.artifact, built.int8.contract, threads=1)
    np.testing.assert_array_equal(np.load(tmp_path / "depths" / "0.npy"), runner.predict(photos(2)[0]))
    np.save(tmp_path / "wrong.npy", np.zeros((3, 3, 3), np.uint8))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_build_does_not_change_the_module(built: Built) -> None:
    torch.manual_seed(0)
    fresh = ToyDepth().eval()
    before = copy.deepcopy(fresh.state_dict())
    assert all(torch.equal(before[name], value) for name, value in built.net.state_dict().items())


GPU_EDGE = {("tflite-gpu-edge", "CAST")}


def refused_by_a_gpu(content: bytes) -> set[tuple[str, str]]:
    return {(f.rule.id, f.op) for op in read_operators(content) for f in findings_of(op)}


def test_axes_that_the_converter_dropped_come_back_and_no_value_changes(built: Built, tmp_path: Path) -> None:
    content = built.fp32.artifact.read_bytes()
    assert {("tflite-gpu-axis", "MEAN"), ("tflite-gpu-argument", "ADD")} <= refused_by_a_gpu(content)
    kept = keep_axes(content)
    assert refused_by_a_gpu(kept) == GPU_EDGE and keep_axes(kept) == kept
    (tmp_path / "model.tflite").write_bytes(kept)
    one, other = (open_artifact(p, built.fp32.contract) for p in (built.fp32.artifact, tmp_path / "model.tflite"))
    for image in photos(2):
        assert np.array_equal(one.predict(image), other.predict(image))


@pytest.mark.parametrize("precision", ["fp32", pytest.param("int8", marks=pytest.mark.slow)])
def test_a_file_for_gpus_has_no_operator_a_gpu_refuses_and_is_as_right(
    built: Built, tmp_path: Path, precision: str
) -> None:
    module = built.program if precision == "int8" else built.net
    asked = replace(request(module, precision, tmp_path), options=Options(gpu=True))
    made = build(asked)
    assert refused_by_a_gpu(made.artifact.read_bytes()) == GPU_EDGE
    assert {name: c["detail"] for name, c in made.checks.items() if c["status"] != "passed"} == {}
    found = lint_operators(
        LintRequest(artifact=made.artifact, contract=made.contract, photos=photos(2), options=asked.options)
    )
    assert record(found)["status"] == "passed"
    assert min(correlation(built, made.artifact, made.contract)) > (0.99999 if precision == "fp32" else 0.97)
