"""On a net as hard as real DINOv2 every target's int8 passes the gate that naive int8 fails.

The toy of conftest.py is such a net, so what follows on it costs one more quantisation. ViT-S and the student that
`make demo` trained: `pytest tests/conformance/test_stress.py -m slow -n0 -s` tells the figures too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from datk.data.photos import builtin_photos
from datk.depth.io_spec import DepthKind
from datk.depth.preprocess import bucket_image, read_image
from datk.evaluate.gates import default_gates
from datk.models.deployment import deployment_module
from datk.models.depth_anything import DepthAnything
from datk.models.stress import LARGEST, attention_shape, largest_residual, stress_net
from datk.models.weights import load_checkpoint
from datk.quantize.calibration import input_tensor
from datk.quantize.layer_check import check_layers
from datk.quantize.naive import naive_scheme
from datk.quantize.ptq import quantize_module
from datk.targets import available
from datk.targets.base import BuildRequest, BuildResult, Target
from datk.targets.pt2e import QuantScheme
from tests.conformance.conftest import lively, normalised

QUANTISED = sorted(name for name, t in available().items() if "int8" in t.precisions and t.runner)
FORM = "nhwc_uint8"
ROOT = Path(__file__).resolve().parents[2]
STUDENT = ROOT / "runs" / "quickstart" / "30-student" / "student.safetensors"
NETS = ("vits", "student")
BUCKET = (224, 392)
"""449 tokens: where peaked attention is reported."""
CALIBRATED = 12
REPORTED_BELOW, REPORTED_MASS = 0.91, (0.17, 0.33)
"""Of Depth Anything V2 Small at 449 tokens: the part of the softmax weights below one 8-bit step, and their mass. The
net here has one screw for both; a student that was trained on another machine meets them within about two points."""

pytestmark = pytest.mark.timeout(3600)


def passes(correlations: Sequence[float]) -> bool:
    """The default int8 gates: median and worst correlation over pictures."""
    gates = default_gates("int8")
    assert gates.min_median_correlation is not None and gates.min_worst_correlation is not None
    median, worst = float(np.median(correlations)), min(correlations)
    return median >= gates.min_median_correlation and worst >= gates.min_worst_correlation


def r(a, b) -> float:
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def test_the_toy_net_is_a_stress_net(toy):
    images = normalised(toy.images)
    assert max(largest_residual(toy.net, images)) >= LARGEST
    assert attention_shape(toy.net, images).top_mass >= 0.7


def test_naive_int8_fails_the_gate(toy):
    program = quantize_module(
        toy.module(FORM), toy.images, naive_scheme(), input_form=FORM, input_size=toy.size, seed=0
    )
    found = [r(program(input_tensor(image, FORM)), toy.depth(image)) for image in toy.images]
    assert not passes(found), found


@pytest.mark.slow  # test_targets.py holds the same artifacts to the same net; here each would be built once more
@pytest.mark.parametrize("name", QUANTISED)
def test_int8_as_shipped_passes_it(built, toy, name):
    runnable(available()[name])
    made = built(name, "int8")
    runner = made.target.open(made.result.artifact, made.result.contract)
    found = [r(runner.predict(image), toy.depth(image)) for image in toy.images]
    runner.close()
    assert passes(found), found


def runnable(target: Target) -> None:
    """Skip where its files cannot be made or run: an engine of TensorRT-RTX needs a GPU."""
    if missing := target.missing():
        pytest.skip(f"target {target.name}: SDK not installed here: {', '.join(missing)}")
    if reason := target.cannot_run():
        pytest.skip(f"target {target.name}: {reason}")


@cache
def photos(split: str, count: int) -> tuple[np.ndarray, ...]:
    return tuple(bucket_image(read_image(p.path), BUCKET) for p in builtin_photos(split)[:count])


@cache
def tame(which: str) -> DepthAnything:
    """ViT-S with lively random weights, or the trained student of the quickstart."""
    if which == "student":
        if not STUDENT.is_file():
            pytest.skip(f"no trained student at {STUDENT.relative_to(ROOT)}: make demo writes it")
        return load_checkpoint(STUDENT).net.eval().requires_grad_(False)
    torch.manual_seed(0)
    return lively(DepthAnything("small"))


@cache
def stressed(which: str) -> DepthAnything:
    return stress_net(tame(which), normalised(photos("calibration", 3)))


def judged() -> tuple[np.ndarray, ...]:
    """Photographs that calibration did not see, as many as the gate asks for."""
    return photos("validation", default_gates("int8").min_photos)


@cache
def float_maps(net: DepthAnything) -> tuple[np.ndarray, ...]:
    module = deployment_module(net, BUCKET, FORM)
    with torch.no_grad():
        return tuple(module(input_tensor(photo, FORM))[0].numpy() for photo in judged())


def against_float(answers: Iterable[np.ndarray], net: DepthAnything, which: str, recipe: str) -> list[float]:
    """Correlation of each answer with net's own map; told with `-s`."""
    found = [r(a, b) for a, b in zip(answers, float_maps(net), strict=True)]
    print(f"\n{which} {recipe}: n {len(found)}, median {np.median(found):.6f}, worst {min(found):.6f}")
    return found


def naive(net: DepthAnything, which: str, recipe: str) -> list[float]:
    module = deployment_module(net, BUCKET, FORM)
    program = quantize_module(
        module, photos("calibration", CALIBRATED), naive_scheme(), input_form=FORM, input_size=BUCKET, seed=0
    )
    return against_float((program(input_tensor(p, FORM))[0].numpy() for p in judged()), net, which, recipe)


@pytest.mark.slow
@pytest.mark.parametrize("which", NETS)
def test_full_size_net_is_as_hard_as_reported(which):
    images = normalised(photos("calibration", 3))
    largest, shape = largest_residual(stressed(which), images), attention_shape(stressed(which), images)
    print(f"\n{which}: max|x| {max(largest):.0f}, {shape}")
    assert sum(value >= LARGEST for value in largest) == 2
    assert abs(shape.below_step - REPORTED_BELOW) <= 0.025, shape
    assert REPORTED_MASS[0] - 0.02 <= shape.mass_below_step <= REPORTED_MASS[1], shape


@pytest.mark.slow
@pytest.mark.parametrize("which", NETS)
def test_naive_int8_of_a_full_size_net_fails_the_gate(which):
    found = naive(stressed(which), which, "naive")
    assert not passes(found), found


@pytest.mark.slow
def test_naive_int8_of_the_student_passes_without_the_stress():
    """The control: it is the stress that naive int8 fails on, not the bucket or the calibration."""
    found = naive(tame("student"), "student", "naive, not stressed")
    assert passes(found), found


@pytest.mark.slow
def test_naive_int8_of_the_student_fails_as_a_file_too_and_its_own_check_says_why(tmp_path):
    """The same route as what ships, another scheme."""
    target = available()["onnx"]
    _, result = exported("student", target, naive_scheme(), tmp_path)
    found = as_file("student", target, result, "naive")
    assert not passes(found), found
    assert result.checks["int8-scheme"]["status"] == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("which", NETS)
@pytest.mark.parametrize("name", QUANTISED)
def test_full_size_net_passes_as_shipped(which, name, tmp_path):
    """What is judged is the file, run by ONNX Runtime, LiteRT or the Core ML evaluator."""
    target = available()[name]
    runnable(target)
    program, result = exported(which, target, target.load(target.scheme)(), tmp_path)
    assert {n: c["detail"] for n, c in result.checks.items() if c["status"] == "failed"} == {}
    found = as_file(which, target, result, "as shipped")
    assert passes(found), found
    module = deployment_module(stressed(which), BUCKET, target.input_form)
    layers = check_layers(program, module, judged()[:2], input_form=target.input_form)
    assert layers["status"] == "passed", layers["detail"]


def exported(which: str, target: Target, scheme: QuantScheme, out: Path) -> tuple[torch.nn.Module, BuildResult]:
    """The quantised program of the stressed net and the file made of it."""
    module = deployment_module(stressed(which), BUCKET, target.input_form)
    images = photos("calibration", CALIBRATED)
    program = quantize_module(module, images, scheme, input_form=target.input_form, input_size=BUCKET, seed=0)
    request = BuildRequest(
        module=program,
        float_module=module,
        precision="int8",
        input_size=BUCKET,
        depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
        photos=judged()[:6],
        out=out,
    )
    return program, target.load(target.build)(request)


def as_file(which: str, target: Target, result: BuildResult, recipe: str) -> list[float]:
    runner = target.open(result.artifact, result.contract)
    recipe = f"{recipe}, {result.artifact.name} by {runner.label}"
    found = against_float((runner.predict(p) for p in judged()), stressed(which), which, recipe)
    runner.close()
    return found
