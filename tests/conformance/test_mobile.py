"""The convolutional student keeps the targets' promises: parity with torch, and every convolution it means in int8."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from datk.depth.io_spec import DepthKind
from datk.models.deployment import DeploymentModule, deployment_module
from datk.models.depth_anything import DepthAnything
from datk.quantize.ptq import quantize_module
from datk.targets import available
from datk.targets.base import BuildRequest

LEAST_R = {"fp32": 0.999999, "fp16": 0.9999, "int8": 0.98}
QUICK = [("onnx", "int8")]
WANTED = [(name, p) for name in ("onnx", "jetson", "coreml", "tflite", "openvino") for p in LEAST_R]
WANTED += [("executorch", "fp32"), ("executorch", "int8")]
CASES = [pytest.param(*case, marks=[] if case in QUICK else [pytest.mark.slow], id="-".join(case)) for case in WANTED]
INT8 = [case for case in CASES if case.values[1] == "int8"]
pytestmark = pytest.mark.timeout(900)


@cache
def module(input_form: str, size: tuple[int, int]) -> DeploymentModule:
    """Random weights with the running statistics of noisy pictures, its map raised above the last ReLU."""
    torch.manual_seed(0)
    net = DepthAnything("mobile").train()
    with torch.no_grad():
        for _ in range(20):
            net.forward_train(torch.randn(4, 3, 56, 56) + torch.randn(4, 3, 1, 1))
        net.depth_head.scratch.output_conv2[2].bias.fill_(3.0)
    return deployment_module(net.eval(), size, input_form)


@pytest.fixture(scope="module")
def build(toy, tmp_path_factory):
    """(target, precision) -> (BuildResult, open runner); skips, naming the SDK, when it is not installed."""
    made = {}

    def one(name: str, precision: str):
        target = available()[name]
        if missing := target.missing():
            pytest.skip(f"target {name}: SDK not installed here: {', '.join(missing)}")
        if (name, precision) not in made:
            out: Path = tmp_path_factory.mktemp(f"{name}-{precision}")
            floating = module(target.input_form, toy.size)
            compiled = floating
            if precision == "int8":
                scheme = target.load(target.scheme)()
                compiled = quantize_module(
                    floating, toy.images, scheme, input_form=target.input_form, input_size=toy.size, seed=0
                )
            request = BuildRequest(
                module=compiled,
                float_module=floating,
                precision=precision,
                input_size=toy.size,
                depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
                photos=toy.images,
                out=out,
            )
            result = target.load(target.build)(request)
            made[name, precision] = (result, target.open(result.artifact, result.contract))
        return made[name, precision]

    yield one
    for _, runner in made.values():
        runner.close()


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_follows_torch(build, toy, name, precision):
    if precision not in available()[name].precisions:
        pytest.fail(f"{name} has no {precision}")
    result, runner = build(name, precision)
    failed = {check: record for check, record in result.checks.items() if record["status"] == "failed"}
    assert not failed
    net = module("nhwc_uint8", toy.size)
    for image in toy.images[:3]:
        expected = net(torch.from_numpy(image[None]))[0].numpy()
        assert expected.std() > 0.01, "a flat map proves nothing"
        assert np.corrcoef(expected.ravel(), runner.predict(image).ravel())[0, 1] > LEAST_R[precision]


@pytest.mark.parametrize(("name", "precision"), INT8)
def test_every_convolution_it_means_is_in_int8_per_channel(build, name, precision):
    scheme = build(name, precision)[0].checks["int8-scheme"]
    assert scheme["status"] == "passed" and scheme["meant"] == 63, scheme["detail"]
    assert sum(scheme["int8_ops"].values()) == 63 and sum(scheme["float_ops"].values()) == 2
    if name == "tflite":
        assert scheme["int8_ops"]["DEPTHWISE_CONV_2D"] == 21 and scheme["int8_besides"]["ADD"] == 13
