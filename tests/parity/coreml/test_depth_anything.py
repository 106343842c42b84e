"""A four-block Depth Anything, saved as .mlpackage and read back, predicts what torch predicts.

Weights are random: nothing here is about accuracy, only about what arrives. fp16 and int8 run with `-m slow`: the
conformance suite builds both in the ordinary run.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datk.data.photos import builtin_photos
from datk.depth.io_spec import DepthKind
from datk.depth.preprocess import bucket_image
from datk.models.deployment import DeploymentModule, deployment_module
from datk.models.depth_anything import DepthAnything
from datk.models.presets import Preset
from datk.quantize.ptq import quantize_module
from datk.targets.base import BuildRequest, BuildResult
from datk.targets.coreml import TARGET

pytest.importorskip("coremltools", reason="coremltools is not installed")

SIZE = (56, 70)
TOY = Preset(
    name="toy",
    dim=32,
    depth=4,
    heads=2,
    ffn="mlp",
    taps=(0, 1, 2, 3),
    features=16,
    out_channels=(16, 16, 24, 32),
    licence="Apache-2.0",
)


@cache
def net() -> DeploymentModule:
    torch.manual_seed(0)
    return deployment_module(DepthAnything(TOY), SIZE, TARGET.input_form)


@cache
def photos() -> tuple[NDArray[np.uint8], ...]:
    import cv2

    files = builtin_photos("validation")[:10]
    return tuple(bucket_image(cv2.imread(str(f.path))[..., ::-1], SIZE) for f in files)


def expected(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.no_grad():
        return net()(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float())[0].numpy()


def built(precision: str, out: Path) -> BuildResult:
    module = net()
    if precision == "int8":
        scheme = TARGET.load(TARGET.scheme or "")()
        module = quantize_module(module, photos()[:4], scheme, input_form=TARGET.input_form, input_size=SIZE, seed=0)
    return TARGET.load(TARGET.build)(
        BuildRequest(
            module=module,
            precision=precision,
            input_size=SIZE,
            depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
            float_module=net(),
            metadata={"author": "the tests", "licence": "Apache-2.0", "recipe": "toy"},
            out=out,
        )
    )


@pytest.mark.parametrize(
    ("precision", "median"),
    [
        ("fp32", 0.9999),
        pytest.param("fp16", 0.999, marks=pytest.mark.slow),
        pytest.param("int8", 0.98, marks=pytest.mark.slow),
    ],
)
def test_saved_package_predicts_what_torch_predicts(precision: str, median: float, tmp_path: Path) -> None:
    result = built(precision, tmp_path)
    assert {name: c["detail"] for name, c in result.checks.items() if c["status"] != "passed"} == {}
    assert {p.name for p in tmp_path.iterdir()} == {result.artifact.name, *(p.name for p in result.extra_files)}
    runner = TARGET.open(result.artifact, result.contract)
    found = [np.corrcoef(runner.predict(p).ravel(), expected(p).ravel())[0, 1] for p in photos()]
    assert np.median(found) >= median
    scale = max(np.abs(expected(p)).max() for p in photos())
    worst = max(np.abs(runner.predict(p) - expected(p)).max() for p in photos())
    assert worst <= {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.2}[precision] * scale
    if precision == "fp32":
        _check_fields(result)
    if precision == "int8":
        assert result.checks["int8-scheme"]["meant"] == 16 + 28
        assert result.checks["int8-scheme"]["stored_bytes"]["int8"] > 50_000


def _check_fields(result: BuildResult) -> None:
    from datk.targets.coreml.reference.program import package_files, read_specification

    fields = read_specification(package_files(result.artifact)["root"]).description.metadata
    assert (fields.author, fields.license) == ("the tests", "Apache-2.0")
    assert fields.userDefined["datk.recipe"] == "toy"
