"""Option `output: int8`: one byte a pixel out of a .tflite file, and everything that reads it knows the steps."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import datk.targets.tflite
from datk.artifact import verify
from datk.depth.io_spec import Contract, DepthKind
from datk.errors import RecipeError, TargetError
from datk.pipeline.route import check_options
from datk.targets import get
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.tflite import int8_output
from datk.targets.tflite.build import build, convert
from datk.targets.tflite.flatbuffer import parse, serialise
from datk.targets.tflite.lint import lint_float
from datk.targets.tflite.options import Options
from datk.targets.tflite.runner import open_artifact

SIZE = (28, 42)
FLOAT32, FLOAT16 = 0, 1
"""Of the schema's TensorType."""
TARGET = get("tflite")
SCRIPT = Path(datk.targets.tflite.__file__).parent / "device" / "run_tflite.py"


class Bright(nn.Module):
    """(1, h, w, 3) uint8 -> (1, h, w), never negative: what there is of a depth net at its output."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).float() / 255
        return torch.relu(self.out(torch.relu(self.mix(pixels))))[:, 0]


def photos(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(3).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8))


def request(module: nn.Module, out: Path) -> BuildRequest:
    out.mkdir(exist_ok=True)
    return BuildRequest(
        module=module,
        precision="fp16",
        input_size=SIZE,
        depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
        photos=photos(3),
        options=Options(output="int8"),
        out=out,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildRequest, BuildResult, BuildResult]:
    """(request, the file with an int8 output, the same net's with a float one); converted once."""
    torch.manual_seed(0)
    net = Bright().eval().requires_grad_(False)
    net.out.bias.fill_(0.5)
    folder = tmp_path_factory.mktemp("int8-output")
    content = convert(net, SIZE, log=folder / "log", quantizer=None)
    asked = request(net, folder / "int8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datk.targets.tflite.build.convert", lambda *args, **kwargs: content)
        whole = build(replace(request(net, folder / "float"), options=Options()))
        return asked, build(asked), whole


def test_the_map_is_the_float_one_to_half_a_step(files: tuple[BuildRequest, BuildResult, BuildResult]) -> None:
    _, made, whole = files
    assert {n: c["detail"] for n, c in made.checks.items() if c["status"] != "passed"} == {}
    output = made.contract.output
    assert (output.dtype, output.zero_point, output.shape) == ("int8", -128, (1, *SIZE)) and output.scale
    stepped, exact = open_artifact(made.artifact, made.contract), open_artifact(whole.artifact, whole.contract)
    largest = 0.0
    for photo in photos(3):
        one, other = stepped.predict(photo), exact.predict(photo)
        assert one.dtype == np.float32 and np.abs(one - other).max() <= output.scale * 0.501
        assert np.unique(np.rint(one / output.scale)).size > 20
        largest = max(largest, float(other.max()))
    assert output.scale == pytest.approx(int8_output.ROOM * largest / 255)
    assert f"{largest:.4g}" in made.checks["int8-output"]["detail"]


def test_what_else_reads_the_file_reads_the_same_map(
    files: tuple[BuildRequest, BuildResult, BuildResult], tmp_path: Path
) -> None:
    """The stand-alone verify.py, the device's script, and the farm's agent."""
    from datk.farm.agent import LiteRt

    _, made, _ = files
    photo = photos(1)[0]
    expected = open_artifact(made.artifact, made.contract).predict(photo)
    contract = made.contract.model_dump(mode="json")
    np.testing.assert_allclose(verify.open_with_runtime(made.artifact, contract)(photo)[0], expected, rtol=1e-6)
    agent = LiteRt(made.artifact, contract, 1)
    agent.put(photo[None])
    agent.invoke()
    np.testing.assert_allclose(agent.take()[0], expected, rtol=1e-6)
    np.save(tmp_path / "a.npy", photo)
    for number, words in enumerate(([], ["--weight-cache", str(tmp_path / "cache")])):
        out = tmp_path / str(number)
        command = [sys.executable, SCRIPT, made.artifact, tmp_path, "--threads", "1", "--out", out, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done
        np.testing.assert_allclose(np.load(out / "a.npy"), expected, rtol=1e-6, atol=made.contract.output.scale)


def test_a_metric_net_keeps_its_own_range(
    files: tuple[BuildRequest, BuildResult, BuildResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the photographs hold: 20 m stay 20 m, in every size the same, so that sizes can be packed."""
    asked, _, whole = files
    content = whole.artifact.read_bytes()
    monkeypatch.setattr("datk.targets.tflite.build.convert", lambda *args, **kwargs: content)
    metric = replace(request(asked.module, tmp_path), depth_kind=DepthKind.DEPTH_METRIC_M, max_depth_m=20.0, photos=())
    made = build(metric)
    assert made.contract.output.scale == pytest.approx(20 / 255)


def test_without_photographs_or_with_a_flat_answer_there_is_no_range(
    files: tuple[BuildRequest, BuildResult, BuildResult], tmp_path: Path
) -> None:
    content = files[2].artifact.read_bytes()
    with pytest.raises(TargetError, match="measured on photographs, and none were given"):
        int8_output.largest_answer(content, (), log=tmp_path / "log")
    model = parse(content)
    for tensor in model.subgraphs[0].tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and tensor.type in (FLOAT32, FLOAT16):
            model.buffers[tensor.buffer].data = np.zeros_like(data)
    dark = serialise(model)
    with pytest.raises(TargetError, match="largest answer on 2 photographs is 0, which gives no range"):
        int8_output.largest_answer(dark, photos(2), log=tmp_path / "log")


def test_a_contract_of_other_steps_is_refused(files: tuple[BuildRequest, BuildResult, BuildResult]) -> None:
    _, made, _ = files
    value = made.contract.model_dump()
    value["output"]["scale"] *= 2
    with pytest.raises(TargetError, match="they differ in output"):
        open_artifact(made.artifact, Contract.model_validate(value))


def test_the_lint_expects_the_output_that_the_contract_tells(
    files: tuple[BuildRequest, BuildResult, BuildResult],
) -> None:
    _, made, _ = files
    assert lint_float(made.artifact, "fp16", output="int8")["status"] == "passed"
    assert "expected UINT8 and FLOAT32" in lint_float(made.artifact, "fp16")["detail"]


@pytest.mark.parametrize(
    ("options", "precision", "words"),
    [
        (Options(output="int8"), "fp32", "256 levels"),
        (Options(output="int8", gpu=True), "fp16", "option gpu"),
    ],
)
def test_what_excludes_an_int8_output_is_refused_before_anything_runs(
    options: Options, precision: str, words: str
) -> None:
    check_options(TARGET, Options(output="int8"), "fp16")
    with pytest.raises(RecipeError, match=words):
        check_options(TARGET, options, precision)
