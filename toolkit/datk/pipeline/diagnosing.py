"""Why an artifact disagrees with the net it was made from: `datk doctor artifact`, and every rejected validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.artifact.manifest import FILE_NAME, read_manifest
from datk.artifact.provenance import tool_versions
from datk.depth.preprocess import bucket_image, read_image
from datk.errors import DatkError, UsageError
from datk.pipeline.models import find_artifact, read_contract
from datk.pipeline.runs import STUDENT, run_of
from datk.pipeline.steps import weights
from datk.pipeline.steps.photos import photo_set
from datk.targets.base import Target
from datk.targets.known_bad import table

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from datk.evaluate.divergence.diagnose import Diagnosis

PARITY_GATES = ("median correlation", "worst correlation", "usable output")
"""Gates whose failure says that the artifact computes something else than its source."""


def diagnose_artifact(
    path: Path, *, checkpoint: Path | None = None, photo: Path | None = None, tools: Mapping[str, str] | None = None
) -> Diagnosis:
    """Look into an artifact or export folder; into int8 beside the quantised program of its run, where that is at hand.

    checkpoint: the float weights it was made from; default: the student of the run it lies in. photo: default a
    built-in one. tools: versions of what runs it elsewhere, such as {"tensorrt": "10.3.0"}. Raises UsageError,
    CheckpointError, DataError, EnvironmentLacks, TargetError.
    """
    from datk.evaluate.divergence.diagnose import diagnose
    from datk.models.deployment import deployment_module

    artifact, target = find_artifact(path)
    if target is None:
        raise UsageError(f"{path}: a checkpoint, not an artifact", hint="datk doctor weights looks at checkpoints")
    target.require()
    contract = read_contract(artifact)
    net = weights.read(checkpoint or _source(artifact)).net
    module = deployment_module(net, contract.input_size, target.input_form)
    chosen = photo or photo_set("builtin", "validation", 1, seed=0).paths[0]
    image = bucket_image(read_image(chosen), contract.input_size)
    return diagnose(
        target, artifact, contract, module, image, tools=_tools(artifact, tools or {}), quantised=_quantised(artifact)
    )


def explain_rejection(
    artifact: Path, target: Target, checkpoint: Path, details: Mapping[str, Any], photos: Sequence[Path]
) -> tuple[list[str], dict[str, Any]]:
    """Sentences for the verdict and the diagnosis for the manifest, when a parity gate failed; else nothing.

    details: of measure(), with `gates` and `parity_vs_float`. The photograph with the worst agreement is looked at.
    What cannot be looked into is a record with its reason.
    """
    failed = [g["name"] for g in details.get("gates", ()) if g["status"] == "failed"]
    if target.tracer is None or not set(failed) & set(PARITY_GATES):
        return [], {}
    scores = {i["name"]: i["correlation"] for i in details["parity_vs_float"]["images"]}
    worst = min(photos, key=lambda p: scores.get(p.name, 1.0) or -1.0)
    try:
        found = diagnose_artifact(artifact, checkpoint=checkpoint, photo=worst)
    except DatkError as error:  # the verdict stands without it
        reason = f"not looked into: {error.message}"
        return [reason], {"not_measured": reason}
    return found.sentences(), found.model_dump(mode="json") | {"photograph": worst.name}


def _source(artifact: Path) -> Path:
    run_dir = run_of(artifact)
    found = None if run_dir is None else run_dir / STUDENT / "student.safetensors"
    if found is None or not found.is_file():
        raise UsageError(
            f"{artifact} does not lie in a run, so its source is not known",
            hint="name the float weights it was made from: --checkpoint FILE",
        )
    return found


def _quantised(artifact: Path) -> GraphModule | None:
    """The program an int8 artifact of a run was compiled from; None where the run does not hold that very one."""
    from datk.pipeline.steps.quantize import FILE as PROGRAM
    from datk.quantize.program import load_program

    run_dir = run_of(artifact)
    if run_dir is None or not (artifact.parent / FILE_NAME).is_file():
        return None
    for read in read_manifest(artifact.parent).inputs:
        stage = run_dir / read.role
        if read.role.startswith("40-quantize-") and (stage / PROGRAM).is_file():
            return load_program(stage / PROGRAM) if read_manifest(stage).digest == read.sha256 else None
    return None


def _tools(artifact: Path, named: Mapping[str, str]) -> dict[str, str]:
    """What built the artifact, what is installed here, and what was named; the last wins."""
    here = {k: v for k, v in tool_versions(tuple({row.tool for row in table()})).items() if v != "absent"}
    built = read_manifest(artifact.parent).tools if (artifact.parent / FILE_NAME).is_file() else {}
    return {**here, **built, **named}
