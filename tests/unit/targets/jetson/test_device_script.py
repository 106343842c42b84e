"""build_and_check.py, with a stand-in for TensorRT and CUDA: what it compares, prints and returns."""

from __future__ import annotations

import ast
import ctypes
import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import datk.targets.jetson
from datk.depth.io_spec import DepthKind, contract_for
from datk.depth.preprocess import bucket_image, resize_output
from datk.targets.device_build import Latency
from datk.targets.jetson.on_device import SCRIPTS
from datk.targets.jetson.plan import GATES, build_plan

SCRIPT = Path(datk.targets.jetson.__file__).parent / "device" / "build_and_check.py"
H, W = 6, 8
rng = np.random.default_rng(0)


def depth_of(image):
    return image.astype(np.float32).sum(-1)


class FakeTensorRT:
    """Parses anything but b"bad"; its engine answers depth_of(image) times `gain` plus noise."""

    def __init__(self, *, version="10.7.0", noise=0.0):
        self.__version__ = version
        self.noise = noise
        self.builds = 0
        self.Logger = type("Logger", (), {"WARNING": 1, "__init__": lambda self, level: None})
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        fake = self

        class Parser:
            num_errors = 1

            def __init__(self, network, logger):
                assert network == 2, "not strongly typed"

            def parse(self, data):
                return data != b"bad"

            def get_error(self, index):
                return "In node 7: zero point"

        def build(network, config):
            fake.builds += 1
            config.cache += b"+timings"
            return b"engine" + b" with details" * (config.profiling_verbosity == "detailed")

        self.OnnxParser = Parser
        self.Builder = lambda logger: SimpleNamespace(
            create_network=lambda flags: flags,
            create_builder_config=lambda: Config(fake),
            build_serialized_network=build,
        )
        self.Runtime = lambda logger: SimpleNamespace(
            deserialize_cuda_engine=lambda data: SimpleNamespace(
                create_execution_context=lambda: Context(fake), create_engine_inspector=lambda: Inspector(data)
            )
        )
        self.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
        self.LayerInformationFormat = SimpleNamespace(JSON="json")


class Inspector:
    """TensorRT's: an object a layer where the engine was built with details, else its name."""

    def __init__(self, engine):
        self.detailed = engine.endswith(b"with details")

    def get_engine_information(self, form):
        assert form == "json"
        layers = [{"Name": "qkv", "LayerType": "gemm"}, {"Name": "conv"}] if self.detailed else ["qkv", "conv"]
        return json.dumps({"Layers": layers, "Bindings": ["image", "depth"]})


class Config:
    """TensorRT's builder configuration, as far as the timing cache: refuses one of another version."""

    def __init__(self, fake):
        self.version, self.cache = fake.__version__.encode(), None
        self.profiling_verbosity = "names"

    def create_timing_cache(self, blob):
        return blob

    def set_timing_cache(self, blob, ignore_mismatch):
        assert ignore_mismatch is False
        if blob and not blob.startswith(self.version):
            return False
        self.cache = blob or self.version
        return True

    def get_timing_cache(self):
        return SimpleNamespace(serialize=lambda: self.cache)


class Context:
    def __init__(self, fake):
        self.fake, self.addresses = fake, {}

    def set_tensor_address(self, name, pointer):
        self.addresses[name] = pointer

    def execute_async_v3(self, stream):
        image = np.ctypeslib.as_array(ctypes.cast(self.addresses["image"], ctypes.POINTER(ctypes.c_uint8)), (H, W, 3))
        out = np.ctypeslib.as_array(ctypes.cast(self.addresses["depth"], ctypes.POINTER(ctypes.c_float)), (1, H, W))
        out[0] = depth_of(image) + rng.normal(0, 1, (H, W)) * self.fake.noise
        return True


def fake_cuda(script):
    """Host memory in place of the device's."""
    keep = []

    class Cuda(script.Cuda):
        def __init__(self):
            pass

        def allocate(self, size):
            keep.append(ctypes.create_string_buffer(size))
            return ctypes.c_void_p(ctypes.addressof(keep[-1]))

        def copy(self, target, source, size, direction):
            ctypes.memmove(target, source, size)

        def stream(self):
            return ctypes.c_void_p(1)

        def wait(self, stream):
            pass

        def free(self, pointer):
            pass

    return Cuda


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A folder as shipped, and a function that runs the script in it: (exit status, JSON)."""
    contract = contract_for(input_size=(H, W), depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, precision="fp16")
    (tmp_path / "model.onnx").write_bytes(b"model")
    images = rng.integers(0, 256, (3, H, W, 3)).astype(np.uint8)
    np.savez(tmp_path / "golden.npz", image=images, depth=np.stack([depth_of(i) for i in images]))
    plan = build_plan(tmp_path / "model.onnx", contract, engine="depth.engine", golden="golden.npz", weak="none")
    (tmp_path / "build_plan.json").write_text(json.dumps(plan))
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("build_and_check", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr(script, "Cuda", fake_cuda(script))

    def run(trt, *arguments):
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        result = tmp_path / "result.json"
        plan_path = str(tmp_path / "build_plan.json")
        status = script.main(["--plan", plan_path, "--json", str(result), "--runs", "3", *arguments])
        return status, json.loads(result.read_text())

    return SimpleNamespace(run=run, folder=tmp_path, script=script)


def test_right_answers_pass_with_latency_and_exit_0(device, capsys):
    status, said = device.run(FakeTensorRT())
    assert (status, said["status"], len(said["images"])) == (0, "passed", 3)
    assert said["latency"]["n"] == 3 and said["images"][0]["correlation"] == pytest.approx(1.0)
    assert json.loads(capsys.readouterr().out) == said


def test_wrong_answers_fail_with_exit_3(device):
    status, said = device.run(FakeTensorRT(noise=200.0))
    assert (status, said["status"]) == (3, "failed")
    assert f"needed {GATES['fp16']:.4f}" in said["detail"]


def test_nan_is_a_wrong_answer(device):
    status, said = device.run(FakeTensorRT(noise=np.nan))
    assert status == 3 and said["images"][0]["correlation"] == -1.0


def test_an_engine_of_this_model_is_reused_and_of_another_is_not(device):
    trt = FakeTensorRT()
    device.run(trt)
    device.run(trt)
    assert trt.builds == 1
    device.run(trt, "--rebuild")
    assert trt.builds == 2
    device.run(FakeTensorRT(version="10.8.0"))
    plan = json.loads((device.folder / "build_plan.json").read_text())
    (device.folder / "model.onnx").write_bytes(b"other")
    status, said = device.run(trt)
    assert status == 1 and "not the model this plan was made for" in said["detail"]
    plan["lines"][1]["model_sha256"] = hashlib.sha256(b"other").hexdigest()
    (device.folder / "build_plan.json").write_text(json.dumps(plan))
    assert device.run(trt)[0] == 0 and trt.builds == 3


def test_parser_errors_are_told_with_exit_1(device):
    plan = json.loads((device.folder / "build_plan.json").read_text())
    (device.folder / "model.onnx").write_bytes(b"bad")
    plan["lines"][1]["model_sha256"] = hashlib.sha256(b"bad").hexdigest()
    (device.folder / "build_plan.json").write_text(json.dumps(plan))
    status, said = device.run(FakeTensorRT())
    assert status == 1 and "In node 7: zero point" in said["detail"]


def test_missing_or_old_tensorrt_is_exit_4(device):
    status, said = device.run(None)
    assert status == 4 and "missing" in said["detail"]
    status, said = device.run(FakeTensorRT(version="8.6.2"))
    assert status == 4 and "for TensorRT 8.6.2 this export has no file: none" in said["detail"]


def test_versions_reported_to_miscompute_are_named(device):
    assert "reported to miscompute" in device.run(FakeTensorRT(version="10.3.0.30"))[1]["detail"]
    assert "reported" not in device.run(FakeTensorRT(version="10.30.0"))[1]["detail"]


def test_without_golden_inputs_nothing_is_claimed(device):
    (device.folder / "golden.npz").unlink()
    status, said = device.run(FakeTensorRT())
    assert (status, said["status"]) == (0, "not_measured")


def test_timings_are_kept_for_the_next_build_and_replaced_for_another_tensorrt(device):
    cache = device.folder / "depth.engine.timing.cache"
    device.run(FakeTensorRT())
    assert cache.read_bytes() == b"10.7.0+timings"
    device.run(FakeTensorRT(), "--rebuild")
    assert cache.read_bytes() == b"10.7.0+timings+timings"
    device.run(FakeTensorRT(version="10.8.0"))
    assert cache.read_bytes() == b"10.8.0+timings"


def test_the_engine_is_inspected_and_built_with_details_for_it(device):
    told = device.folder / "engine.json"
    status, said = device.run(FakeTensorRT(), "--inspect", str(told))
    assert (status, said["inspected"]) == (0, {"file": "engine.json", "layers": 2})
    assert json.loads(told.read_text())["Layers"][0]["LayerType"] == "gemm"
    assert device.run(FakeTensorRT(), "--rebuild")[1]["inspected"] is None
    assert device.run(FakeTensorRT(), "--inspect", str(told))[1]["inspected"]["layers"] == 2
    assert json.loads(told.read_text())["Layers"] == ["qkv", "conv"], "an engine that lies there keeps what it was"


def test_each_step_of_a_frame_is_timed_beside_the_inference(device):
    latency = device.run(FakeTensorRT(), "--frame", "48x64")[1]["latency"]
    for part in (latency, *(latency[name] for name in ("pre", "h2d", "d2h", "post"))):
        assert 0 < part["p50_ms"] <= part["p90_ms"] <= part["p99_ms"]
    assert latency["around"].endswith("a frame of 48x64") and Latency.model_validate(latency).post is not None


def test_without_opencv_the_copies_and_the_inference_are_timed_all_the_same(device, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    latency = device.run(FakeTensorRT())[1]["latency"]
    assert latency["pre"] is latency["post"] is None and "python3-opencv" in latency["around"]
    assert latency["p50_ms"] > 0 and latency["h2d"]["p50_ms"] > 0


def test_the_frame_is_resized_as_the_contract_says(device):
    from camera_frame import steps  # type: ignore[import-not-found]  # where the script finds it

    pre, post, _ = steps((14, 28), (37, 53))
    frame = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    assert np.array_equal(pre(), bucket_image(frame, (14, 28)))
    depth = np.random.default_rng(1).random((14, 28)).astype(np.float32)
    np.testing.assert_allclose(post(depth), resize_output(depth, (37, 53)), atol=1 / 32)  # OpenCV's places: 1/32


# Lines as tegrastats prints them on an Orin Nano (JetPack 5 and 6) and a Nano (JetPack 4): form from the tool's
# documentation and public logs; the figures are of no measurement of ours.
ORIN = (
    "05-17-2024 10:11:12 RAM 2269/7620MB (lfb 4x2MB) SWAP 0/3810MB (cached 0MB) CPU [12%@1510,0%@1510,off,off] "
    "EMC_FREQ 3%@2133 GR3D_FREQ 87%@[624] cpu@48.5C soc2@47.2C gpu@50.1C cv0@-256C tj@50.1C "
    "VDD_IN 5912mW/5301mW VDD_CPU_GPU_CV 1800mW/1500mW VDD_SOC 1400mW/1390mW"
)
NANO = (
    "RAM 1500/3956MB (lfb 100x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [10%@1428,5%@1428] "
    "EMC_FREQ 2%@1600 GR3D_FREQ 99%@921 APE 25 PLL@38.5C CPU@40.5C PMIC@100C GPU@39C AO@47C thermal@39.75C "
    "POM_5V_IN 3500/3400 POM_5V_GPU 900/880 POM_5V_CPU 600/590"
)


def test_tegrastats_is_read_from_its_own_lines(device):
    from board_readings import read_tegrastats  # type: ignore[import-not-found]  # where the script finds it

    orin = read_tegrastats(ORIN + "\n" + ORIN.replace("87%", "13%").replace("5912mW", "4088mW") + "\n")
    assert (orin["lines"], orin["not_understood"]) == (2, 0)
    assert orin["max_temperature_c"] == {"cpu": 48.5, "gpu": 50.1, "soc2": 47.2, "tj": 50.1}
    assert orin["mean_power_mw"] == {"VDD_IN": 5000.0, "VDD_CPU_GPU_CV": 1800.0, "VDD_SOC": 1400.0}
    assert (orin["max_ram_mb"], orin["mean_gpu_percent"], orin["gpu_mhz"]) == (2269, 50.0, [624, 624])
    nano = read_tegrastats(NANO)
    assert nano["mean_power_mw"]["POM_5V_IN"] == 3500.0 and nano["gpu_mhz"] == [921, 921]
    assert read_tegrastats("tegrastats: permission denied\n")["not_understood"] == 1


def test_tools_of_the_board_are_run_and_the_clocks_come_back(device, monkeypatch):
    """Stand-ins for tegrastats and jetson_clocks: shell scripts that write down how they were called."""
    tools = device.folder / "tools"
    tools.mkdir()
    called = tools / "called"
    for name, body in (("tegrastats", f"while :; do echo '{ORIN}'; sleep 0.02; done"), ("jetson_clocks", "")):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {called}\n{body}\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    said = device.run(FakeTensorRT(), "--lock-clocks", "--runs", "30")[1]
    assert said["clocks"] == "locked at the highest"
    assert said["board"].get("not_understood") == 0
    words = called.read_text().splitlines()
    clocks = [line.split()[1:2] for line in words if line.startswith("jetson_clocks")]
    assert clocks == [["--store"], [], ["--restore"]]
    assert device.run(FakeTensorRT())[1]["clocks"] == "not asked for"


def test_without_the_boards_tools_that_is_said(device, monkeypatch):
    monkeypatch.setenv("PATH", "")
    said = device.run(FakeTensorRT(), "--lock-clocks")[1]
    assert "not installed" in said["clocks"] and "not a Jetson" in said["board"]["not_measured"]


def test_a_part_that_was_not_copied_is_named_with_exit_4(device):
    (device.folder / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
    done = subprocess.run([sys.executable, device.folder / SCRIPT.name], capture_output=True, text=True)
    assert done.returncode == 4 and "No module named 'camera_frame'" in done.stderr, done


def test_the_device_folder_holds_the_scripts_that_are_copied_and_sent():
    assert sorted(SCRIPTS) == sorted(path.name for path in SCRIPT.parent.iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        (SCRIPT.name, {"numpy", "tensorrt", "tensorrt_engine", "board_readings", "camera_frame", "find_layer"}),
        ("camera_frame.py", {"numpy", "cv2"}),  # without which it does: see above
        *((name, {"numpy"}) for name in SCRIPTS[1:] if name != "camera_frame.py"),
    ],
)
def test_scripts_are_python_3_8_and_need_only_what_jetpack_brings(name, needs):
    tree = ast.parse(SCRIPT.with_name(name).read_text(encoding="utf-8"), feature_version=(3, 8))
    names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names - set(sys.stdlib_module_names) == needs
