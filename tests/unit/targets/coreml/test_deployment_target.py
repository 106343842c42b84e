"""The option `deployment_target`: the oldest system a package is for, and a clear word where that is too old."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datk.errors import RecipeError
from datk.pipeline.route import check_options, target_options
from datk.targets import get
from datk.targets.coreml.options import Options
from datk.targets.coreml.reference.evaluator import Evaluator
from datk.targets.coreml.reference.program import read_program


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("iOS13", "iOS13 is too old: the package needs iOS17 or newer"),
        ("macOS12", "macOS12 is too old: the package needs macOS14 or newer"),
        ("iOS99", "iOS99 is not one of iOS17, macOS14, iOS18, macOS15"),
        ("android", "android is not one of"),
        ("iOS", "iOS is too old"),
    ],
)
def test_a_system_that_is_too_old_or_unknown_is_refused_with_those_that_are_not(value: str, words: str) -> None:
    with pytest.raises(RecipeError, match=f"options.deployment_target: {words}") as caught:
        target_options(get("coreml"), {"deployment_target": value})
    assert caught.value.exit_code == 2


def test_what_is_not_proven_on_newer_systems_is_refused_before_anything_runs() -> None:
    target = get("coreml")
    newer = target_options(target, {"deployment_target": "iOS18"})
    check_options(target, newer, "fp16")
    with pytest.raises(RecipeError, match="iOS18 stores int8 in a form not proven here"):
        check_options(target, newer, "int8")
    check_options(target, target_options(target, {"deployment_target": "macOS14"}), "int8")


@pytest.mark.slow
@pytest.mark.parametrize(("system", "specification"), [("macOS14", 8), ("iOS18", 9)])
def test_the_package_is_of_the_specification_of_that_system_and_answers_as_ever(
    tmp_path: Path, system: str, specification: int
) -> None:
    pytest.importorskip("coremltools", reason="coremltools is not installed")
    from datk.targets.coreml.build import build
    from tests.unit.targets.coreml.test_layout import PIXELS, micro, request

    plain = request(tmp_path, micro(), "fp16")
    built = build(replace(plain, options=Options(deployment_target=system)))
    assert all(check["status"] == "passed" for check in built.checks.values())
    program = read_program(built.artifact)
    assert program.specification_version == specification
    with torch.no_grad():
        expected = plain.module(PIXELS)
    found = Evaluator(program).run(PIXELS)[program.outputs[0]]
    assert float((found - expected).abs().max()) <= 2e-3 * float(expected.abs().max())
