"""The option `layout: neural-engine`: the same function, with nothing left that the engine would have to turn over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datk.config.schema import TargetSection
from datk.depth.io_spec import DepthKind
from datk.errors import RecipeError, TargetError
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything
from datk.models.passes.channels_first import ChannelNorm
from datk.models.presets import Preset
from datk.pipeline.route import check_options, target_options
from datk.targets import get
from datk.targets.base import BuildRequest
from datk.targets.coreml.build import build
from datk.targets.coreml.op_lint import findings
from datk.targets.coreml.options import Options
from datk.targets.coreml.reference.evaluator import Evaluator
from datk.targets.coreml.reference.program import Program, read_program
from datk.train.start import fresh_net

SIZE = (28, 42)
ENGINE = Options(layout="neural-engine")
PIXELS = torch.randint(0, 256, (1, 3, *SIZE), generator=torch.Generator().manual_seed(0)).float()

MICRO = Preset(
    name="micro", ffn="mlp", dim=48, depth=4, heads=2, taps=(0, 1, 2, 3), features=16, out_channels=(16, 16, 16, 16),
    licence="Apache-2.0",
)  # fmt: skip


def micro() -> DepthAnything:
    torch.manual_seed(1)
    return DepthAnything(MICRO).eval().requires_grad_(False)


def request(folder: Path, net: DepthAnything, precision: str) -> BuildRequest:
    folder.mkdir(parents=True, exist_ok=True)
    return BuildRequest(
        module=deployment_module(net, SIZE, "nchw_float"), input_size=SIZE, precision=precision,
        depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT, out=folder, metadata={},
    )  # fmt: skip


def on_engine(plain: BuildRequest) -> tuple[Program, Tensor]:
    """What is left of a net laid out for the engine, and what it answers to PIXELS."""
    built = build(replace(plain, options=ENGINE))
    assert all(check["status"] == "passed" for check in built.checks.values())
    program = read_program(built.artifact)
    return program, Evaluator(program).run(PIXELS)[program.outputs[0]]


def test_the_package_computes_what_torch_does_and_no_token_is_transposed(tmp_path: Path) -> None:
    plain = request(tmp_path, micro(), "fp16")
    program, found = on_engine(plain)
    with torch.no_grad():
        expected = plain.module(PIXELS)
    assert float((found - expected).abs().max()) <= 2e-3 * float(expected.abs().max())
    assert not {"linear", "transpose"} & program.histogram().keys()
    assert "coreml-ane-layout" not in {f.rule.id for f in findings(program)}


@pytest.mark.slow
def test_compressed_it_answers_as_the_other_layout_compressed(tmp_path: Path) -> None:
    plain = request(tmp_path / "tokens", micro(), "int8-weights")
    tokens = read_program(build(plain).artifact)
    assert {"linear", "transpose"} <= tokens.histogram().keys()
    assert "coreml-ane-layout" in {f.rule.id for f in findings(tokens)}
    expected = Evaluator(tokens).run(PIXELS)[tokens.outputs[0]]
    _, found = on_engine(replace(plain, out=tmp_path))
    assert float((found - expected).abs().max()) <= 0.02 * float(expected.abs().max())


@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-5), ("fp16", 2e-3)])
def test_the_norm_over_channels_is_saved_as_one_operation_whose_squares_half_precision_never_sees(
    workshop: Any, precision: str, rounding: float
) -> None:
    norm = nn.LayerNorm(3, eps=1e-6)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.uniform_(norm.bias, -1.0, 1.0)
    program, found = workshop.run(ChannelNorm(norm), precision)
    assert program.histogram()["layer_norm"] == 1 and not {"reduce_mean", "rsqrt"} & program.histogram().keys()
    with torch.no_grad():
        expected = norm(workshop.pixels().movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(found, expected, rtol=rounding, atol=rounding)


def test_a_net_without_that_encoder_is_refused_rather_than_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="written for the DINOv2 encoder"):
        build(replace(request(tmp_path, fresh_net("mobile", seed=1), "fp16"), options=ENGINE))


def test_int8_is_refused_before_anything_runs() -> None:
    target = get("coreml")
    options = target_options(target, TargetSection(name="coreml", options={"layout": "neural-engine"}).options)
    check_options(target, options, "lut6")
    with pytest.raises(RecipeError, match="coreml' int8: layout neural-engine"):
        check_options(target, options, "int8")
    check_options(target, target_options(target, {}), "int8")
    with pytest.raises(RecipeError, match="layout"):
        target_options(target, {"layout": "upside-down"})
