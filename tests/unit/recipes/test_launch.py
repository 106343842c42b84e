"""The launch files: schema, syntax, directives, and the very torchrun line they end in."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from datk.config.load import builtin_recipes, find_recipe, load_recipe
from datk.train.world import World

LAUNCH = Path(__file__).parents[3] / "recipes/launch"
SKYPILOT = (LAUNCH / "skypilot.yaml").read_text(encoding="utf-8")
TASK: dict[str, Any] = yaml.safe_load(SKYPILOT)
SCHEMA: dict[str, Any] = json.loads((LAUNCH / "skypilot.schema.json").read_text(encoding="utf-8"))
SBATCH = (LAUNCH / "slurm.sbatch").read_text(encoding="utf-8")
TIME = r"\d+(-\d+)?(:\d{2}){0,2}"
DIRECTIVES = {
    "job-name": r"[\w.-]+",
    "nodes": r"[1-9]\d*",
    "ntasks-per-node": r"1",
    "gpus-per-node": r"[1-9]\d*",
    "cpus-per-task": r"[1-9]\d*",
    "mem": r"\d+[KMGT]?",
    "time": TIME,
    "signal": r"(B:)?[A-Z]+@\d+",
    "requeue": r"",
    "open-mode": r"append|truncate",
    "output": r"\S*%j\S*",
}
"""What sbatch's manual says the values of the options used look like."""


@pytest.fixture
def stubs(tmp_path: Path) -> dict[str, str]:
    """An environment in which srun runs what it is given, torchrun prints its words, and scontrol knows two nodes."""
    programs = {
        "srun": 'shift\nexec "$@"',
        "torchrun": 'printf "%s\\n" "$@" "OMP=$OMP_NUM_THREADS"',
        "scontrol": 'printf "node1\\nnode2\\n"',
    }
    for name, body in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"}


def ran(script: str, environment: dict[str, str], cwd: Path) -> list[str]:
    done = subprocess.run(["bash", "-c", script], env=environment, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_skypilot_task_fits_the_schema_and_mistakes_do_not() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(TASK, SCHEMA)
    for where, key, value in (
        (TASK, "num_node", 1),
        (TASK, "num_nodes", "two"),
        (TASK["resources"], "accelerators", "A100:0"),
        (TASK["resources"], "use_spot", "yes"),
        (TASK["resources"]["job_recovery"], "strategy", "NEVER"),
        (TASK["volumes"], "runs", "relative path"),
    ):
        broken = json.loads(json.dumps(TASK))
        target = broken if where is TASK else broken["resources"] if where is TASK["resources"] else broken["volumes"]
        if where is TASK["resources"]["job_recovery"]:
            target = broken["resources"]["job_recovery"]
        target[key] = value
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_the_skypilot_task_starts_the_processes_of_every_node(stubs: dict[str, str], tmp_path: Path) -> None:
    given = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}
    given["SKYPILOT_NODE_IPS"] = "10.0.0.1\n10.0.0.2"
    own = {"RECIPE": "paper/student_s", "RUNS": str(tmp_path)}
    words = ran(TASK["run"] + "\npwd", stubs | given | TASK["envs"] | own, Path("/"))
    assert words.pop() == str(tmp_path), "a paper's recipe finds data/ and weights/ on the volume"
    assert words[:5] == [
        "--nnodes=2",
        "--node-rank=1",
        "--nproc-per-node=8",
        "--master-addr=10.0.0.1",
        "--master-port=29500",
    ]
    out = f"{tmp_path}/student_s"
    assert words[5:-1] == ["-m", "datk", "run", "paper/student_s", "--until", "student", "--out", out]
    assert words[-1] == "OMP=1"


def test_the_lines_to_begin_with_share_their_batches_evenly() -> None:
    """Each line's own number of GPUs, else the file's."""
    for text, option, own in (
        (SBATCH, r"--gpus-per-node=(\d+)", r"#SBATCH --gpus-per-node=(\d+)"),
        (SKYPILOT, r"--gpus \S+:(\d+)", r"accelerators: \S+:(\d+)"),
    ):
        told = [line for line in text.splitlines() if line.startswith("#") and "RECIPE=" in line]
        assert len(told) == 2
        for line in told:
            gpus, name = re.search(option, line) or re.search(own, text), re.search(r"RECIPE=([\w/]+)", line)
            assert gpus is not None and name is not None, line
            recipe = load_recipe(find_recipe(name[1]))
            for section in filter(None, (recipe.teacher, recipe.student)):
                World(size=int(gpus[1])).check_divides(section.schedule.batch_size)


def test_the_slurm_file_is_bash_with_known_directives_before_its_first_command() -> None:
    assert subprocess.run(["bash", "-n", str(LAUNCH / "slurm.sbatch")], capture_output=True).returncode == 0
    lines = SBATCH.splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    places = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert places and max(places) < first, "sbatch stops reading directives at the first command"
    found = {}
    for place in places:
        matched = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", lines[place])
        assert matched is not None, lines[place]
        found[matched[1]] = matched[2] or ""
    assert found.keys() == DIRECTIVES.keys()
    for name, value in found.items():
        assert re.fullmatch(DIRECTIVES[name], value), f"--{name}={value}"


def test_the_slurm_file_starts_one_torchrun_a_node(stubs: dict[str, str], tmp_path: Path) -> None:
    given = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_PER_NODE": "4"}
    given |= {"SLURM_JOB_ID": "77", "RECIPE": "mine.yaml", "RUNS": "/shared/runs", "UNTIL": "teacher"}
    words = ran(SBATCH, stubs | given, tmp_path)
    assert words[:5] == [
        "--nnodes=2",
        "--nproc-per-node=4",
        "--rdzv-id=77",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=node1:29500",
    ]
    assert words[5:-1] == ["-m", "datk", "run", "mine.yaml", "--until", "teacher", "--out", "/shared/runs/mine"]
    del given["RECIPE"]
    missing = subprocess.run(["bash", "-c", SBATCH], env=stubs | given, cwd=tmp_path, capture_output=True, text=True)
    assert missing.returncode != 0 and "name a recipe" in missing.stderr


def test_torchrun_knows_every_option_the_files_use() -> None:
    from torch.distributed.run import get_args_parser

    known = {option for action in get_args_parser()._actions for option in action.option_strings}
    used = set(re.findall(r"^\s+(--[a-z-]+)=", SBATCH + TASK["run"], flags=re.MULTILINE))
    assert len(used) >= 7 and used <= known


def test_launch_files_are_no_recipes() -> None:
    assert not [name for name in builtin_recipes() if "launch" in name or "skypilot" in name]
