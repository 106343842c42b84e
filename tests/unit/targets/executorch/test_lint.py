"""What a .pte holds is read from its bytes: int8 that is none, and what XNNPACK leaves to plain kernels, are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datk.depth.io_spec import DepthKind
from datk.errors import TargetError
from datk.quantize.ptq import quantize_module
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.executorch.build import build
from datk.targets.executorch.lint import check_float, check_int8
from datk.targets.executorch.op_lint import findings
from datk.targets.executorch.program import Kernel, Node, PteProgram, Value, read_program
from datk.targets.executorch.runner import open_artifact
from datk.targets.executorch.scheme import scheme

SIZE = (14, 28)
INT8 = Value("qint8", (1, 4), scales=np.ones(1, np.float32))
FLOAT = Value("fp32", (1, 4))
WEIGHT = Value("qcint8", (2, 4), scales=np.array([0.5, 2], np.float32), data=bytes([1, 255, 2, 0, 3, 0, 0, 4]))
LAYER = Node("FullyConnected", "part 1, node 0", (INT8, WEIGHT), INT8)


def problems(program: PteProgram, *wanted: str, adds: int = 0) -> dict[str, list[str]]:
    record = check_int8(program, torch.nn.Identity(), wanted, adds=adds)
    assert (record["status"] == "failed") == bool(record["problems"]), record
    return record["problems"]


def one(*nodes: Node, kernels: tuple[Kernel, ...] = ()) -> PteProgram:
    return PteProgram((nodes,), kernels)


def test_a_layer_counts_as_int8_only_with_data_weights_and_output_in_int8() -> None:
    assert problems(one(LAYER), "a") == {}
    assert problems(one(LAYER, replace(LAYER, output=FLOAT)), "a", "b") == {
        "not_int8": ["a", "b"],
        "other": ["1 nodes mix int8 and float: part 1, node 0"],
    }
    assert "1 layers run in int8 though" in problems(one(LAYER, LAYER), "a")["other"][0]
    coarse = replace(LAYER, inputs=(INT8, Value("qint8", (2, 4), np.ones(1, np.float32), data=WEIGHT.data)))
    assert problems(one(coarse), "a") == {"per_tensor": ["part 1, node 0"]}


def test_a_residual_add_or_a_kernel_that_quantises_is_found() -> None:
    add = Node("Add", "part 1, node 1", (INT8, INT8), INT8)
    assert problems(one(LAYER, add), "a") == {"fragile": ["1 Add"]}
    assert problems(one(LAYER, add), "a", adds=1) == {}
    assert "0 adds run in int8" in problems(one(LAYER), "a", adds=1)["other"][0]
    kernel = Kernel("quantized_decomposed::quantize_per_tensor", "instruction 3")
    assert "outside XNNPACK" in problems(one(LAYER, kernels=(kernel,)), "a")["other"][0]


def test_a_float_file_that_holds_integers_or_no_layer_fails() -> None:
    plain = Node("FullyConnected", "part 1, node 0", (FLOAT, Value("fp32", (2, 4), data=b"0")), FLOAT)
    assert check_float(one(plain))["status"] == "passed"
    assert "not stored as fp32" in check_float(one(LAYER))["detail"]
    assert "no layer with weights" in check_float(one())["detail"]


def test_what_xnnpack_lacks_is_advice_and_what_no_runtime_has_an_error() -> None:
    kernels = (
        Kernel("aten::native_layer_norm", "instruction 2"),
        Kernel("executorch_prim::et_view", "instruction 3"),
        Kernel("mine::fast_norm", "instruction 4"),
    )
    deep = Node("StaticReshape", "part 1, node 2", (Value("fp32", (1,) * 7),), FLOAT)
    found = [(f.rule.id, f.rule.severity, f.op) for f in findings(one(LAYER, deep, kernels=kernels))]
    assert found == [
        ("executorch-portable-kernel", "advice", "native_layer_norm"),
        ("executorch-custom-op", "error", "fast_norm"),
        ("executorch-xnnpack-rank", "error", "StaticReshape"),
    ]


class Toy(torch.nn.Module):
    """(1, h, w, 3) uint8 -> (1, h, w): a convolution with its ReLU, LayerNorm, a linear, a residual add."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.LayerNorm(28)
        self.mix = torch.nn.Linear(28, 28)
        self.last = torch.nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(image.permute(0, 3, 1, 2).float() / 255))
        return self.last((x + self.mix(self.norm(x))) * 0.5)[:, 0]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory, pictures: np.ndarray) -> tuple[BuildResult, torch.nn.Module]:
    """The toy's int8 file and NNCF's program behind it."""
    pytest.importorskip("executorch", reason="executorch is not installed")
    net = Toy().eval()
    program = quantize_module(net, list(pictures), scheme(), input_form="nhwc_uint8", input_size=SIZE, seed=0)
    kind = DepthKind.DISPARITY_AFFINE_INVARIANT
    out = tmp_path_factory.mktemp("pte")
    request = BuildRequest(
        module=program, float_module=net, precision="int8", input_size=SIZE, depth_kind=kind, out=out
    )
    return build(request), program


@pytest.mark.slow
def test_an_int8_file_runs_its_layers_in_int8_with_the_programs_numbers(int8, pictures) -> None:  # type: ignore[no-untyped-def]
    result, _ = int8
    assert {name: c["status"] for name, c in result.checks.items()} == dict.fromkeys(result.checks, "passed")
    found = result.checks["int8-scheme"]
    assert found["meant"] == 3 and found["int8_ops"] == {"Conv2d": 2, "FullyConnected": 1}, found
    runner, net = open_artifact(result.artifact, result.contract), Toy().eval()
    for picture in pictures[:2]:
        with torch.no_grad():
            expected = net(torch.from_numpy(picture)[None])[0].numpy()
        assert np.corrcoef(expected.ravel(), runner.predict(picture).ravel())[0, 1] > 0.99
    runner.close()


@pytest.mark.slow
def test_a_wrong_weight_scale_or_input_scale_in_the_file_names_the_layer(int8) -> None:  # type: ignore[no-untyped-def]
    result, program = int8
    stored = read_program(result.artifact)
    wanted = scheme().quantizer.selected(program)
    assert check_int8(stored, program, wanted)["status"] == "passed"
    for part, which in ((0, "the scale of its input"), (1, "times the program's")):
        for number, node in enumerate(stored.nodes):
            if node.kind not in ("Conv2d", "FullyConnected") or not node.inputs[0].is_int8:
                continue
            scales = node.inputs[part].scales
            assert scales is not None
            wrong = list(node.inputs)
            wrong[part] = replace(wrong[part], scales=scales * np.float32(1.5))
            nodes = list(stored.nodes)
            nodes[number] = replace(node, inputs=tuple(wrong))
            record = check_int8(PteProgram((tuple(nodes),), stored.kernels), program, wanted)
            assert any(which in said for said in record["problems"]["scales"]), record


@pytest.mark.slow
def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="executorch is not installed")
    (tmp_path / "model.pte").write_bytes(b"not a program" * 50)
    with pytest.raises(TargetError, match=r"not a \.pte file"):
        read_program(tmp_path / "model.pte")
