"""Every available target, found by scanning, is held to the same claims on the same toy net."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from datk.artifact.files import sha256_file
from datk.artifact.manifest import LOG_SUFFIXES
from datk.config.load import recipe_from_dict
from datk.depth.io_spec import Contract, DepthKind
from datk.depth.runner import Runner
from datk.errors import DataError, EnvironmentLacks, UsageError
from datk.evaluate.divergence.diagnose import diagnose, float_program
from datk.pipeline import stage
from datk.pipeline.route import stages_of
from datk.targets import available, op_lint
from tests.conformance.conftest import quantised_module
from tests.conformance.plant import KINDS, sites

ROOT = Path(__file__).resolve().parents[2]
TARGETS = sorted(available())
REFERENCE = yaml.safe_load((Path(__file__).parent / "reference.yaml").read_text(encoding="utf-8"))


def own(name):
    """What a target's folder says of its own conformance: {slow: {precision: why}, not_repeatable: why}."""
    spec = importlib.util.find_spec(available()[name].package)
    path = Path(spec.origin).parent / "conformance.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def cases():
    for name, target in available().items():
        slow = REFERENCE["slow"].get(name, {}) | own(name).get("slow", {})
        for precision in target.precisions:
            marks = [pytest.mark.slow] if precision in slow else []
            yield pytest.param(name, precision, id=f"{name}-{precision}", marks=marks)


DEPTHS = 3
"""Random places at which each kind of fault is planted."""

pytestmark = pytest.mark.timeout(900)
"""A compiler on a busy two-core machine takes several times its usual half minute."""

each_case = pytest.mark.parametrize(("name", "precision"), list(cases()))
each_target = pytest.mark.parametrize("name", TARGETS)
built_twice = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in REFERENCE["twice"] else [pytest.mark.slow]) for n in TARGETS]
)


@each_case
def test_builds_and_no_check_of_its_own_fails(built, name, precision):
    result = built(name, precision).result
    for check, record in result.checks.items():
        assert record["status"] in ("passed", "not_measured"), f"{check}: {record['detail']}"
        assert record["detail"], f"{check} gives no detail"


@each_case
def test_writes_its_artifact_and_extra_files_and_nothing_else(built, name, precision):
    made = built(name, precision)
    assert made.result.artifact.name.endswith(made.target.suffix)
    assert set(made.folder.iterdir()) == {made.result.artifact, *made.result.extra_files}


@each_case
def test_contract_says_all_an_app_must_know(built, toy, name, precision):
    contract = built(name, precision).result.contract
    assert Contract.model_validate_json(contract.model_dump_json()) == contract
    assert (contract.input_size, contract.precision) == (toy.size, precision)
    assert (contract.depth_kind, contract.larger_is) == (DepthKind.DISPARITY_AFFINE_INVARIANT, "nearer")
    assert (contract.input.dtype, contract.input.shape) == ("uint8", (1, *toy.size, 3))
    assert (contract.input.colour_order, contract.input.value_range) == ("RGB", (0, 255))
    assert contract.output.dtype in ("float32", "float16")
    assert int(np.prod(contract.output.shape)) == toy.size[0] * toy.size[1]


@each_case
def test_its_lint_of_operators_finds_no_error_and_tells_what_removes_the_rest(built, toy, name, precision):
    made = built(name, precision)
    if made.target.op_lint is None:
        return
    request = op_lint.LintRequest(
        artifact=made.result.artifact,
        contract=made.result.contract,
        photos=toy.images[:1],
        checks=made.result.checks,
    )
    said = op_lint.record(made.target.load(made.target.op_lint)(request))
    assert said["status"] == "passed", said["detail"]
    assert said["operators"] > 0 and said["rules"]
    assert all(f["where"] and f["why"] and f["rewrite"] and f["source"] for f in said["findings"])


@each_case
def test_tells_where_its_time_goes_or_why_it_cannot(built, toy, name, precision):
    made = built(name, precision)
    if made.target.profiler is None:
        assert made.target.no_profile
        return
    times = made.target.load(made.target.profiler)(made.result.artifact, made.result.contract, toy.images[0], 2)
    assert times.total_ms > 0 and times.by_op
    assert sum(times.share(kind) for kind in ("integer", "float", "convert", "move")) == pytest.approx(1)
    if precision in ("fp32", "fp16"):
        assert times.share("float") > 0.9 and times.share("integer") == 0, times.by_op


@each_case
def test_follows_torch_within_the_tolerance_of_its_precision(built, toy, name, precision):
    made = built(name, precision)
    if reason := made.target.cannot_run():
        with pytest.raises(EnvironmentLacks, match=re.escape(reason)) as told:
            made.target.open(made.result.artifact, made.result.contract)
        assert told.value.exit_code == 4
        pytest.skip(f"target {name}: {reason}")
    allowed = REFERENCE["tolerance"][precision]
    runner = made.target.open(made.result.artifact, made.result.contract)
    assert isinstance(runner, Runner) and runner.label and runner.input_size == toy.size
    for image in toy.images[:2]:
        expected, found = toy.depth(image), runner.predict(image)
        assert found.shape == toy.size and found.dtype == np.float32
        correlation = np.corrcoef(expected.ravel(), found.ravel())[0, 1]
        if rejected := allowed.get("rejected_below"):
            assert correlation < rejected, "it holds on this net now: state a tolerance"
            continue
        assert correlation >= allowed["correlation"]
        assert np.abs(found - expected).max() / np.abs(expected).max() <= allowed["max_error_rel"]
    h, w = toy.size
    for wrong in (
        np.zeros((h, w + 14, 3), np.uint8),
        np.zeros((w, h, 3), np.uint8),
        np.zeros((h, w, 3), np.float32),
        np.zeros((h, w), np.uint8),
    ):
        with pytest.raises(DataError, match="expected a uint8 RGB image"):
            runner.predict(wrong)
    runner.close()
    runner.close()


@pytest.mark.slow
@each_case
def test_a_fault_planted_into_the_saved_file_is_named(built, toy, name, precision, tmp_path):
    """Wrong weight, swapped axis, wrong resize mode, each at random depths: the layer named is the planted one."""
    if available()[name].tracer is None:
        pytest.skip(f"target {name}: has no tracer")
    if precision not in ("fp32", "fp16", "int8"):
        pytest.skip(f"{precision}: its rounding is tested on torch itself, see tests/unit/evaluate/test_divergence.py")
    made = built(name, precision)
    contract, image = made.result.contract, toy.images[0]
    module = toy.module(made.target.input_form)
    program = float_program(module, image, made.target.input_form)
    quantised = quantised_module(name) if precision == "int8" else None

    def look(artifact):
        return diagnose(made.target, artifact, contract, module, image, tools={}, program=program, quantised=quantised)

    clean = look(made.result.artifact)
    assert clean.findings == (), clean.sentences()
    assert clean.n_found > clean.n_layers / 2
    weights = {n: v.numpy() for n, v in module.state_dict().items()}
    random = np.random.default_rng(sum(map(ord, name + precision)))
    every = sites(made.result.artifact, weights, seed=1)
    for kind in KINDS:
        here = [site for site in every if site.kind == kind]
        assert len(here) >= DEPTHS
        for number in sorted(random.choice(len(here), DEPTHS, replace=False)):
            site, spoilt = here[number], tmp_path / f"spoilt{made.target.suffix}"
            site.plant(made.result.artifact, spoilt)
            found = look(spoilt)
            assert found.findings, f"{kind} in {site.layer}: {found.sentences()}"
            first = found.findings[0]
            assert (first.layer, first.proven) == (site.layer, True), f"{kind} in {site.layer}: {first.sentence()}"
            assert site.which in ("", first.which)


@built_twice
def test_same_inputs_give_the_same_bytes(built, toy, name, tmp_path):
    if reason := REFERENCE["not_repeatable"].get(name) or own(name).get("not_repeatable"):
        pytest.skip(f"target {name}: {reason}")
    target = available()[name]
    precision = REFERENCE["twice"].get(name, target.default_precisions[0])
    first = built(name, precision).result
    again = toy.build(target, precision, tmp_path)
    assert sha256_file(again.artifact) == sha256_file(first.artifact)
    for one, other in zip(first.extra_files, again.extra_files, strict=True):
        if one.suffix not in LOG_SUFFIXES:  # logs tell how long things took
            assert sha256_file(one) == sha256_file(other), one.name


def export_keys(name, folder, weights, size=(56, 70), seed=0):
    """Precision -> key of the stage that exports it, as the route makes it from a recipe and a checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.safetensors").write_bytes(weights)
    section = {"name": name, "precisions": list(available()[name].precisions), "input_size": list(size)}
    value = {"name": "keys", "checkpoints": {"student": str(folder / "net.safetensors")}, "targets": [section]}
    stages = stages_of(recipe_from_dict(value, where="test"))
    student = stages[0].key({}, seed)
    exports = [s for s in stages if s.verb == "export"]
    return {s.section["precision"]: s.key(dict.fromkeys(s.needs, student), seed) for s in exports}


@each_target
def test_same_inputs_give_the_same_key_and_others_another(name, tmp_path, monkeypatch):
    if missing := available()[name].missing():
        pytest.skip(f"target {name}: SDK not installed here: {', '.join(missing)}")
    keys = export_keys(name, tmp_path / "a", b"weights")
    assert len(set(keys.values())) == len(available()[name].precisions), "two precisions share a key"
    assert export_keys(name, tmp_path / "elsewhere", b"weights") == keys
    for other in (
        export_keys(name, tmp_path / "a", b"weights", size=(70, 56)),
        export_keys(name, tmp_path / "a", b"weights", seed=1),
        export_keys(name, tmp_path / "b", b"others"),
    ):
        assert not set(other.values()) & set(keys.values())
    newer = dict.fromkeys(available()[name].tools, "999")
    monkeypatch.setattr(stage, "tool_versions", lambda names: {n: newer.get(n, "1") for n in names})
    assert not set(export_keys(name, tmp_path / "a", b"weights").values()) & set(keys.values())


@each_target
def test_missing_sdk_is_exit_4_with_the_pip_line(name, monkeypatch):
    target = available()[name]
    if not target.modules:
        pytest.skip(f"target {name}: needs no SDK")
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(EnvironmentLacks) as caught:
        target.require()
    assert caught.value.exit_code == 4
    assert target.missing() == list(target.modules)
    assert f"datk[{target.extra}]" in (caught.value.hint or "")


@each_target
def test_unknown_and_foreign_precisions_are_usage_errors(name):
    target = available()[name]
    with pytest.raises(UsageError, match="no precision named 'fp12'"):
        target.check_precision("fp12")
    for precision in target.precisions:
        target.check_precision(precision)
        assert precision in REFERENCE["tolerance"]
    assert set(target.default_precisions) <= set(target.precisions)


@each_target
def test_requirements_are_the_extra_of_pyproject(name):
    """A target inside the tree; `onnx` has no extra of its own and lists datk's core pins."""
    folder = ROOT / "targets" / name
    if not folder.is_dir():
        pytest.skip(f"target {name} lies outside the tree")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"][available()[name].extra]
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    listed = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if extra:
        assert listed == extra
    else:
        assert listed and set(listed) <= set(project["dependencies"])
    assert (folder / "README.md").is_file()


def test_listing_targets_imports_no_sdk():
    sdks = ["torch", "onnx", "onnxruntime", "coremltools", "litert_torch", "ai_edge_litert", "tensorrt_rtx", "nncf"]
    sdks += ["openvino"]
    program = (
        "import sys, datk.targets; names = datk.targets.available(); "
        f"print([m for m in {sdks} if m in sys.modules] if names else 'no targets')"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "toolkit", check=True)
    assert run.stdout.strip() == "[]"
