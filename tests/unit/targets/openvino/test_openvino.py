"""The openvino target with the real converter and runtime, on a net of one block: every operator of the real one."""

from __future__ import annotations

import builtins
import getpass
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datk.artifact.files import sha256_file, write_json
from datk.depth.io_spec import DepthKind
from datk.errors import DataError, EnvironmentLacks, TargetError
from datk.pipeline.ship.golden import write_golden
from datk.pipeline.ship.kits import write_kits
from datk.quantize.ptq import quantize_module
from datk.targets import get
from datk.targets.base import BuildRequest
from datk.targets.openvino.scheme import scheme

pytest.importorskip("openvino", reason="openvino is not installed here")

import openvino as ov

from datk.targets.openvino.build import build
from datk.targets.openvino.ir import ARTIFACT, contract_inside, load, save
from datk.targets.openvino.layers import weight_layers
from datk.targets.openvino.lint import check_compressed, check_float, check_int8
from datk.targets.openvino.profile import in_integers, kind_of
from datk.targets.openvino.runner import open_artifact, open_for_latency
from datk.targets.openvino.trace import open_trace
from datk.targets.openvino.weights import compress

SIZE = (28, 42)
DIM = 64
QUANTISED = ["qkv", "proj", "fc1", "fc2", "layer_rn", "output_conv1"]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, DIM, 14, stride=14)})
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.fc1, self.fc2 = nn.Linear(DIM, 2 * DIM), nn.Linear(2 * DIM, DIM)
        self.layer_rn = nn.Conv2d(DIM, 8, 3, padding=1)
        self.output_conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.output_conv2 = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed["proj"](image.permute(0, 3, 1, 2).to(torch.float32) / 64 - 2)
        x = x.flatten(2).transpose(1, 2)  # (1, patches, DIM)
        q, k, v = (p.reshape(1, -1, 2, DIM // 2).transpose(1, 2) for p in self.qkv(self.norm1(x)).split(DIM, -1))
        weights = torch.softmax(torch.matmul(q, k.transpose(2, 3)) * 0.2, dim=-1)
        x = x + self.proj(torch.matmul(weights, v).transpose(1, 2).reshape(1, -1, DIM))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        x = x.transpose(1, 2).reshape(1, DIM, SIZE[0] // 14, SIZE[1] // 14)
        x = self.output_conv1(F.relu(self.layer_rn(x)))
        x = F.interpolate(x, size=SIZE, mode="bilinear", align_corners=True)
        return F.relu(self.output_conv2(x) + 2).squeeze(1)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    waves = [np.stack([y * a, x * b, (y + x) * c], -1) * 3 for a, b, c in rng.uniform(0.5, 3, (4, 3))]
    return [(127 + 90 * np.sin(w / 20)).astype(np.uint8) for w in waves]


def request(out: Path, module: nn.Module, precision: str, **more) -> BuildRequest:
    out.mkdir()
    kind = DepthKind.DISPARITY_AFFINE_INVARIANT
    return BuildRequest(module=module, precision=precision, input_size=SIZE, depth_kind=kind, out=out, **more)


@pytest.fixture(scope="module")
def net():
    return Block().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def program(net):
    return quantize_module(net, pictures(), scheme(), input_form="nhwc_uint8", input_size=SIZE, seed=0)


@pytest.fixture(scope="module")
def fp32(net, tmp_path_factory):
    metadata = {"checkpoint_sha256": "ab" * 32}
    return build(request(tmp_path_factory.mktemp("ov") / "fp32", net, "fp32", metadata=metadata))


@pytest.fixture(scope="module")
def int8(net, program, tmp_path_factory):
    return build(request(tmp_path_factory.mktemp("ov") / "int8", program, "int8", float_module=net))


def test_the_file_carries_contract_and_metadata_and_nothing_of_this_machine(fp32):
    model = load(fp32.artifact)
    assert contract_inside(model) == fp32.contract
    assert str(model.get_rt_info(["datk", "checkpoint_sha256"]).value) == "ab" * 32
    content = b"".join(path.read_bytes() for path in fp32.artifact.iterdir())
    for trace in (socket.gethostname(), getpass.getuser() + "/", str(Path.cwd()), "/tmp/"):
        assert trace.encode() not in content
    assert sorted(path.name for path in fp32.artifact.iterdir()) == ["model.bin", "model.xml"]


def test_the_same_net_gives_the_same_bytes(net, fp32, tmp_path):
    again = build(request(tmp_path / "again", net, "fp32", metadata={"checkpoint_sha256": "ab" * 32}))
    assert sha256_file(again.artifact) == sha256_file(fp32.artifact)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-weights", "int4-weights"])
def test_so_does_every_other_precision(net, program, tmp_path, precision):
    module = program if precision == "int8" else net
    one, other = (build(request(tmp_path / name, module, precision, float_module=net)) for name in "ab")
    assert sha256_file(one.artifact) == sha256_file(other.artifact)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_runs_as_torch_does(net, precision, request):
    result = request.getfixturevalue(precision)
    assert {check["status"] for check in result.checks.values()} == {"passed"}, result.checks
    for opened in (open_artifact, open_for_latency):
        runner = opened(result.artifact, result.contract)
        for image in pictures()[:2]:
            expected = net(torch.from_numpy(image[None]))[0].numpy()
            off = np.abs(runner.predict(image) - expected).max() / np.ptp(expected)
            as_stored = precision == "fp32" and opened is open_artifact  # an app's may compute in bfloat16
            assert off < (1e-4 if as_stored else 0.1)
        runner.close()
        with pytest.raises(TargetError, match="is closed"):
            runner.predict(pictures()[0])


def test_its_python_kit_passes_the_golden_pack(fp32, net):
    out = fp32.artifact.parent
    contract = fp32.contract.model_copy(update={"artifact": ARTIFACT})
    write_json(out / "contract.json", contract.model_dump(mode="json"))
    write_golden(out, get("openvino"), fp32.artifact, contract, net)
    assert write_kits(out, contract) == ["python", "cpp"]
    command = [sys.executable, "-I", "golden_test.py"]
    done = subprocess.run(command, cwd=out / "kits" / "python", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_labels_tell_int8_computed_in_float_from_integer_kernels(fp32, int8):
    labels = [o(r.artifact, r.contract).label for r in (fp32, int8) for o in (open_artifact, open_for_latency)]
    assert labels == ["openvino-cpu", "openvino-cpu", "openvino-cpu-int8-in-float", "openvino-cpu"]


def test_int8_layers_truly_run_in_integers_here(int8):
    runtime = int8.checks["runtime"]
    assert runtime["integer_layers"] >= len(QUANTISED), runtime
    assert int8.checks["int8-scheme"]["int8_ops"] == {"Convolution": 2, "MatMul": 4}
    assert int8.checks["int8-scheme"]["float_ops"] == {"Convolution": 3}


def test_another_contract_a_missing_file_and_rubbish_are_refused(fp32, tmp_path):
    metric = fp32.contract.model_copy(update={"depth_kind": DepthKind.DEPTH_METRIC_M, "larger_is": "farther"})
    with pytest.raises(TargetError, match="its contract says") as caught:
        open_artifact(fp32.artifact, metric)
    assert "different exports" in caught.value.hint
    with pytest.raises(DataError, match=r"holds no model\.xml"):
        open_artifact(tmp_path / ARTIFACT, fp32.contract)
    (tmp_path / ARTIFACT).mkdir()
    (tmp_path / ARTIFACT / "model.xml").write_text("<net", encoding="utf-8")
    with pytest.raises(TargetError, match="OpenVINO cannot read it"):
        open_artifact(tmp_path / ARTIFACT, fp32.contract)


def test_without_openvino_the_runner_names_the_pip_line(fp32, monkeypatch):
    real = builtins.__import__

    def lacking(name, *rest, **more):
        if name.split(".")[0] == "openvino":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(EnvironmentLacks) as caught:
        open_artifact(fp32.artifact, fp32.contract)
    assert caught.value.exit_code == 4 and "datk[openvino]" in caught.value.hint


def test_what_openvino_cannot_write_is_its_own_words_and_leaves_nothing(fp32, tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("Exception from core\n\nNo space left on device\n")

    monkeypatch.setattr(ov, "save_model", full)
    with pytest.raises(TargetError, match="No space left on device"):
        save(load(fp32.artifact), tmp_path / ARTIFACT, fp32.contract, {}, half=False)
    assert list(tmp_path.iterdir()) == []


# --- what the lint must see ---------------------------------------------------------------------------------------


def layer(model, name):
    return next(found for found in weight_layers(model) if found.name == name)


def put(operation, side, node):
    operation.input(side).replace_source_output(node.output(0))


def constant(values):
    return ov.opset13.constant(np.asarray(values, np.float32))


def lint(model, program):
    return check_int8(model, QUANTISED, program)


def test_int8_passes_as_saved(int8, program):
    record = lint(load(int8.artifact), program)
    assert record["status"] == "passed", record["detail"]
    assert record["meant"] == 6 and record["int8_weight_bytes"] == 64 * (192 + 64 + 128 + 128 + 72) + 8 * 72


def test_a_float_weight_behind_quantised_data_is_named(int8, program):
    model = load(int8.artifact)
    fc1 = layer(model, "fc1")
    floats = fc1.weight() if fc1.operation.get_attributes()["transpose_b"] else fc1.weight().T
    put(fc1.operation, 1, constant(floats))
    record = lint(model, program)
    assert record["problems"]["not_int8"] == ["fc1"] and record["problems"]["float_weights"] == ["fc1"]


def test_data_left_in_float_are_named(int8, program):
    model = load(int8.artifact)
    conv = layer(model, "layer_rn")
    conv.operation.input(0).replace_source_output(conv.reads.input_value(0))
    record = lint(model, program)
    assert record["status"] == "failed"
    assert record["problems"]["not_int8"] == ["layer_rn"] and "layer_rn" in record["problems"]["other"][0]


def test_a_wrong_weight_scale_and_a_wrong_input_scale_are_named(int8, program):
    model = load(int8.artifact)
    multiply = layer(model, "proj").operation.input_value(1).get_node()
    while multiply.get_type_name() != "Multiply":
        multiply = multiply.input_value(0).get_node()
    put(multiply, 1, constant(multiply.input_value(1).get_node().get_data() * 3))
    reads = layer(model, "fc2").reads
    put(reads, 4, constant(reads.input_value(4).get_node().get_data() * 2))
    problems = " ".join(lint(model, program)["problems"]["scales"])
    assert "proj: weights are 3 times" in problems and "fc2: the scale of its input is" in problems


def test_one_scale_for_all_channels_is_named(int8, program):
    model = load(int8.artifact)
    multiply = layer(model, "qkv").operation.input_value(1).get_node()
    while multiply.get_type_name() != "Multiply":
        multiply = multiply.input_value(0).get_node()
    scale = multiply.input_value(1).get_node().get_data()
    put(multiply, 1, constant(scale.max(keepdims=True)))
    assert lint(model, program)["problems"]["per_tensor"] == ["qkv"]


def test_a_quantised_residual_add_is_fragile(int8, program):
    model = load(int8.artifact)
    reads = layer(model, "qkv").reads
    add = next(n for n in model.get_ordered_ops() if n.get_type_name() == "Add" and n.get_output_shape(0) == [1, 6, DIM]
               and all(n.input_value(i).get_node().get_type_name() != "Constant" for i in (0, 1)))  # fmt: skip
    put(add, 0, reads)
    assert record_names(lint(model, program)["problems"]["fragile"]) == [add.get_friendly_name()]


def record_names(named):
    return [entry.split(" ", 1)[1] for entry in named]


def test_a_layer_kept_in_float_that_runs_in_int8_is_named(int8, program):
    record = check_int8(load(int8.artifact), [n for n in QUANTISED if n != "output_conv1"], program)
    assert record["status"] == "failed" and "output_conv1" in record["detail"]


def test_a_float_file_is_held_to_its_precision(fp32, int8, tmp_path):
    save(load(fp32.artifact), tmp_path / ARTIFACT, fp32.contract, {}, half=True)
    half = load(tmp_path / ARTIFACT)
    assert check_float(half, "fp16")["stored"] == {"f16": 9} and check_float(half, "fp16")["status"] == "passed"
    assert check_float(load(fp32.artifact), "fp32")["status"] == "passed"
    assert "9 layers are not stored as f16" in check_float(load(fp32.artifact), "fp16")["detail"]
    assert "are quantised" in check_float(load(int8.artifact), "fp32")["detail"]


COMPRESSED = [("int8-weights", {"i8": 6, "f32": 3}), ("int4-weights", {"i4": 4, "i8": 2, "f32": 3})]


@pytest.mark.parametrize(("precision", "stored"), COMPRESSED)
def test_compressed_weights_are_counted_in_the_file(fp32, precision, stored):
    model = compress(load(fp32.artifact), precision)
    record = check_compressed(model, precision)
    assert record["status"] == "passed", record["detail"]
    assert record["stored"] == stored
    other = "int4-weights" if precision == "int8-weights" else "int8-weights"
    assert check_compressed(model, other)["status"] == "failed"
    assert "no weight is stored" in check_compressed(load(fp32.artifact), precision)["detail"]


# --- looking inside -----------------------------------------------------------------------------------------------


def test_a_trace_gives_every_float_tensor_and_the_output(fp32, net):
    trace = open_trace(fp32.artifact, fp32.contract)
    names = [tensor.name for tensor in trace.tensors]
    assert len(set(names)) == len(names) and names[-1] == trace.output_name == "depth"
    image = pictures()[0]
    values = trace.run(image, names)
    expected = net(torch.from_numpy(image[None])).numpy()
    np.testing.assert_allclose(values["depth"], expected, atol=1e-4)
    embedded = net.patch_embed["proj"](torch.from_numpy(image[None]).permute(0, 3, 1, 2).float() / 64 - 2).numpy()
    name = next(n for n in names if n.startswith("patch_embed.proj/") and "Without" not in n)
    np.testing.assert_allclose(values[name], embedded, atol=1e-4)
    with pytest.raises(DataError, match="expected a uint8 RGB image"):
        trace.run(image[:14], names)


def test_kernels_are_told_apart_by_name():
    assert in_integers("jit_gemm_I8") and in_integers("brgconv_avx512_U8") and not in_integers("brgemm_avx2_f32")
    assert kind_of("FullyConnectedQuantizedLegacy", "jit_gemm_i8") == "integer"
    assert kind_of("Convolution", "jit_avx2_f32") == "float"
    assert kind_of("Subgraph", "jit_avx2_I8") == "convert"
    assert kind_of("Transpose", "jit_uni_I8") == "move"
    assert kind_of("FakeQuantize", "jit_avx2_f32") == "convert"


def test_the_target_is_found_by_its_folder():
    target = get("openvino")
    assert target.default_precisions == ("fp16", "int8")


def test_int4_of_a_net_of_convolutions_says_why_nothing_is_int4() -> None:
    """`mobile` has no linear: its export is rejected, with what to take instead."""
    parameter = ov.opset13.parameter([1, 4, 4, 3], np.uint8)
    image = ov.opset13.convert(parameter, "f32")
    pixels = ov.opset13.transpose(image, np.array([0, 3, 1, 2]))
    kernel = ov.opset13.constant(np.ones((8, 3, 3, 3), np.float32))
    layer = ov.opset13.convolution(pixels, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    record = check_compressed(ov.Model([layer], [parameter], "convolution"), "int4-weights")
    assert record["status"] == "failed" and "int8-weights takes them" in record["detail"], record
