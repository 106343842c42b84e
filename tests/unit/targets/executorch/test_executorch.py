"""A .pte is what its contract says, carries it, computes what torch computes, and is refused by name when it is not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from datk.depth.io_spec import DepthKind, contract_for
from datk.errors import DataError, TargetError
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.executorch.build import build, check_delegation
from datk.targets.executorch.runner import open_artifact

SIZE = (14, 28)


def contract(size=SIZE, kind=DepthKind.DISPARITY_AFFINE_INVARIANT):
    return contract_for(input_size=size, depth_kind=kind, precision="fp32", max_depth_m=None)


class Toy(torch.nn.Module):
    """(1, h, w, 3) uint8 -> (1, h, w), with an operator that XNNPACK leaves to the plain kernels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.LayerNorm(28)
        self.last = torch.nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.first(image.permute(0, 3, 1, 2).float() / 255)
        return self.last(torch.relu(self.norm(x)))[:, 0]


def request(module: torch.nn.Module, out: Path) -> BuildRequest:
    return BuildRequest(
        module=module.eval(),
        precision="fp32",
        input_size=SIZE,
        depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
        metadata={"weights_sha256": "0" * 64},
        out=out,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    pytest.importorskip("executorch", reason="executorch is not installed")
    return build(request(Toy(), tmp_path_factory.mktemp("pte")))


def test_a_program_that_xnnpack_runs_no_part_of_fails_its_check_and_what_is_left_out_is_named() -> None:
    record = check_delegation(Counter({"alloc": 3, "delegate": 2, "native_layer_norm": 12}))
    assert record["status"] == "passed" and record["outside"] == {"native_layer_norm": 12}
    assert record["detail"].endswith("plain kernels: 12 x native_layer_norm")
    assert check_delegation(Counter({"linear": 1}))["status"] == "failed"


def test_a_missing_file_is_told_before_the_runtime_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_artifact(tmp_path / "model.pte", contract())


@pytest.mark.slow
def test_it_computes_what_torch_computes_and_earlier_answers_stay(made: BuildResult) -> None:
    assert {name: c["status"] for name, c in made.checks.items()} == dict.fromkeys(made.checks, "passed")
    assert any("native_layer_norm" in name for name in made.checks["delegation"]["outside"])
    runner, net = open_artifact(made.artifact, made.contract), Toy().eval()
    pictures = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
    answers = [runner.predict(p) for p in pictures]
    for picture, answer in zip(pictures, answers, strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(answer, net(torch.from_numpy(picture).unsqueeze(0))[0].numpy(), atol=1e-5)
    turned = pictures[0][:, ::-1]
    np.testing.assert_array_equal(runner.predict(np.ascontiguousarray(turned)), runner.predict(turned))
    runner.close()
    runner.close()
    with pytest.raises(TargetError, match="closed"):
        runner.predict(pictures[0])


@pytest.mark.slow
def test_another_contract_or_a_damaged_file_is_refused(made: BuildResult, tmp_path: Path) -> None:
    for other, said in (
        (contract(kind=DepthKind.DEPTH_METRIC_M), "the file says"),
        (contract((28, 14)), "the file says"),
    ):
        with pytest.raises(TargetError, match=said):
            open_artifact(made.artifact, other)
    damaged = tmp_path / "model.pte"
    damaged.write_bytes(b"not a program" * 50)
    with pytest.raises(TargetError, match="cannot load it"):
        open_artifact(damaged, contract())


@pytest.mark.slow
def test_what_the_exporter_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    pytest.importorskip("executorch", reason="executorch is not installed")

    class Branches(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.float()[..., 0] if image.sum() > 0 else image.float()[..., 1]

    with pytest.raises(TargetError, match="ExecuTorch refused the net"):
        build(request(Branches(), tmp_path))
    assert not list(tmp_path.iterdir())
