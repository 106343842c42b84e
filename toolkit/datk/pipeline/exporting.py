"""`datk export`: a checkpoint, or the newest run's student, to one or several targets, measured and gated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datk import targets
from datk.artifact.files import sha256_file
from datk.artifact.manifest import FILE_NAME
from datk.config.load import load_recipe, recipe_from_dict
from datk.config.qat_section import QatSection
from datk.config.schema import CheckpointsSection, Recipe, SchemeSection, TargetSection
from datk.depth.io_spec import Size
from datk.errors import CheckpointError, DataError, UsageError
from datk.evaluate.verdict_rule import FLOAT
from datk.pipeline.execute import Selection
from datk.pipeline.route import default_input_size
from datk.pipeline.runs import EXPORT_PREFIX, ROOT, STUDENT, newest_run
from datk.pipeline.ship.chain import chain_of_recipe, refuse_unless_commercial
from datk.pipeline.steps.teacher import spec_of
from datk.pipeline.typed_options import typed_options


@dataclass(frozen=True)
class ExportRequest:
    """What was typed."""

    targets: tuple[str, ...]
    checkpoint: Path | None = None
    run: Path | None = None
    precisions: tuple[str, ...] = ()
    input_sizes: tuple[Size, ...] = ()
    calibration: Path | None = None
    teacher: str | None = None
    kind: str | None = None
    max_depth_m: float | None = None
    bench: str = "mini"
    data: Path | None = None
    images: Path | None = None
    allow_few: bool = False
    commercial: bool = False
    """Refuse a licence chain that does not allow commercial use."""
    weights_licence: str | None = None
    out: Path | None = None
    sensitivity: Path | None = None
    """A map that `datk quantize sensitivity` measured on the very weights."""
    keep_float: int = 4
    """How many of its most sensitive layers every int8 scheme leaves in float."""
    qat: QatSection | None = None
    """Train under each target's int8 first. None: as the run's recipe has it."""
    options: tuple[str, ...] = ()
    """KEY=VALUE or TARGET.KEY=VALUE: options of the targets, as a recipe's `targets[].options`."""


@dataclass(frozen=True)
class ExportPlan:
    """Where and what to run, and what was taken by default, in words."""

    recipe: Recipe
    """Only the targets asked for."""
    whole: Recipe
    """What the run folder keeps: the targets it had before as well."""
    run_dir: Path
    selection: Selection
    said: list[str]


def plan_export(request: ExportRequest) -> ExportPlan:
    """Raises UsageError, CheckpointError or RecipeError before anything is written, GateFailed for --commercial."""
    options = typed_options(request.options, tuple(targets.get(name).name for name in request.targets))
    sections = tuple(_section(name, request, options) for name in request.targets)
    run_dir = request.run or newest_run() if request.checkpoint is None else None
    weights = run_dir / STUDENT / "student.safetensors" if run_dir else request.checkpoint
    assert weights is not None
    layers = float_layers_of(request.sensitivity, weights, request.keep_float) if request.sensitivity else ()
    if request.checkpoint is not None:
        plan = _from_checkpoint(request, request.checkpoint, tuple(_sparing(s, layers) for s in sections))
    else:
        assert run_dir is not None
        plan = _from_run(request, run_dir, sections, layers)
    if layers:
        plan.said.append(f"--sensitivity: the {len(layers)} most sensitive layers stay in float in every int8")
    if request.commercial:
        chain = chain_of_recipe(plan.recipe, plan.run_dir)
        refuse_unless_commercial(chain)
        every = f"all {len(chain)} licences allow it" if len(chain) > 1 else "the one licence allows it"
        plan.said.append(f"--commercial: {every}; the export's NOTICE lists them")
    return plan


def _section(name: str, request: ExportRequest, options: Mapping[str, dict[str, Any]]) -> TargetSection:
    target = targets.get(name)
    for precision in request.precisions:
        target.check_precision(precision)
    sizes = request.input_sizes
    return TargetSection(
        name=target.name,
        precisions=request.precisions or None,
        input_size=sizes[0] if len(sizes) == 1 else None,
        buckets=sizes if len(sizes) > 1 else (),
        qat=request.qat,
        options=options[target.name],
    )


def _from_checkpoint(request: ExportRequest, checkpoint: Path, sections: tuple[TargetSection, ...]) -> ExportPlan:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint.stem).strip("-.") or "export"
    value: dict[str, Any] = {
        "name": name,
        "description": f"{checkpoint.name}, exported by `datk export`",
        "checkpoints": {
            "student": str(checkpoint),
            "teacher": request.teacher,
            "kind": request.kind,
            "max_depth_m": request.max_depth_m,
            "licence": request.weights_licence,
        },
        "quantize": {"images": str(request.calibration) if request.calibration else "builtin"},
        "targets": [s.model_dump(mode="json") for s in sections],
        "photos": {"validation": str(request.images) if request.images else "builtin"},
        "validate": {
            "bench": request.bench,
            "data": str(request.data) if request.data else None,
            "allow_few": request.allow_few,
        },
    }
    recipe = recipe_from_dict(value, where="datk export")
    said = []
    if request.teacher is None:
        said.append("no --teacher: judged against the checkpoint itself in float32 (reference: self)")
    if request.calibration is None:
        said.append("no --calibration: the photographs datk ships")
    return ExportPlan(recipe, recipe, request.out or ROOT / name, Selection(), said)


def float_layers_of(path: Path, weights: Path, count: int) -> tuple[str, ...]:
    """Regular expressions of the `count` most sensitive layers of a map, for a scheme's float_layers.

    Raises DataError for no map, one not measured to its end, or one of other weights; CheckpointError without weights.
    """
    from datk.quantize.sensitivity_map import read_map

    found = read_map(path)
    try:
        same = found.facts.get("weights_sha256") == sha256_file(weights)
    except OSError as error:
        raise CheckpointError(f"{weights}: cannot be read ({error.strerror})") from error
    if not same:
        raise DataError(
            f"{path}: is the sensitivity map of other weights than {weights}",
            hint=f"datk quantize sensitivity --checkpoint {weights} --out another.json",
        )
    return found.float_layers(count=count)


def _sparing(section: TargetSection, layers: tuple[str, ...]) -> TargetSection:
    """The section with those layers in float as well, whatever its scheme."""
    if not layers:
        return section
    scheme = section.scheme or SchemeSection()
    wider = scheme.model_copy(update={"float_layers": tuple(dict.fromkeys((*scheme.float_layers, *layers)))})
    return section.model_copy(update={"scheme": wider})


def _from_run(
    request: ExportRequest, run_dir: Path, sections: tuple[TargetSection, ...], layers: tuple[str, ...]
) -> ExportPlan:
    of_a_checkpoint = {
        "--teacher": request.teacher,
        "--kind": request.kind,
        "--out": request.out,
        "--weights-licence": request.weights_licence,
    }
    for flag, value in of_a_checkpoint.items():
        if value is not None:
            raise UsageError(
                f"{flag} goes with --checkpoint", hint="an export of a run uses that run's own teacher and folder"
            )
    kept = load_recipe(run_dir / "00-recipe.yaml")
    before = {s.name: s for s in kept.targets}
    sections = tuple(_sparing(_as_before(s, before.get(s.name)), layers) for s in sections)
    others = request.calibration is None  # other calibration photographs are no reason to quantise the others anew
    sections = tuple(_beside_what_is_built(s, kept, run_dir, quantised=others) for s in sections)
    update: dict[str, Any] = {"targets": sections, "checkpoints": _own_copies(kept, run_dir)}
    if request.calibration is not None:
        update["quantize"] = kept.quantize.model_copy(update={"images": str(request.calibration)})
    if request.images is not None:
        update["photos"] = kept.photos.model_copy(update={"validation": str(request.images)})
    update["validation"] = kept.validation.model_copy(
        update={"bench": request.bench, "data": str(request.data) if request.data else None}
        | ({"allow_few": True} if request.allow_few else {})
    )
    recipe = kept.model_copy(update=update)
    merged = _merged(kept.targets, sections)
    whole = recipe.model_copy(update={"targets": merged, "checkpoints": kept.checkpoints})
    said = [f"no --checkpoint: the student of {run_dir}"] if request.run is None else []
    return ExportPlan(recipe, whole, run_dir, Selection(first="validate-student"), said)


def _as_before(section: TargetSection, before: TargetSection | None) -> TargetSection:
    """With the scheme, and unless others are asked for the training under it and the options, that the run has."""
    if before is None:
        return section
    options = {**before.options, **section.options}
    return section.model_copy(update={"scheme": before.scheme, "qat": section.qat or before.qat, "options": options})


def _beside_what_is_built(section: TargetSection, kept: Recipe, run_dir: Path, *, quantised: bool) -> TargetSection:
    """With the precisions of the target that the run holds already at the same sizes: a verdict compares them all.

    quantised: the weaker ones as well, not the float ones alone.
    """
    before = next((s for s in kept.targets if s.name == section.name), None)
    if before is None or section.precisions is None or before.options != section.options:
        return section
    default = default_input_size(kept)
    if before.sizes(default) != section.sizes(default):
        return section
    earlier = before.precisions or targets.get(section.name).default_precisions
    folders = {p: f"{EXPORT_PREFIX}{section.name}-{p}" for p in earlier if quantised or p in FLOAT}
    built = [p for p, f in folders.items() if any((*run_dir.glob(f"{f}/{FILE_NAME}"), *run_dir.glob(f"{f}-[0-9]*x*")))]
    return section.model_copy(update={"precisions": tuple(dict.fromkeys((*built, *section.precisions)))})


def _own_copies(kept: Recipe, run_dir: Path) -> CheckpointsSection:
    """The run's own copies of the checkpoints it was made from: the user's files may be gone by now."""
    own: dict[str, Any] = {}
    if kept.checkpoints.student is not None:
        own |= {"student": str(run_dir / STUDENT / "student.safetensors")}
        own |= {"kind": None, "max_depth_m": None, "licence": None}
    if kept.checkpoints.teacher is not None:
        own["teacher"] = spec_of(run_dir / "10-teacher")
    return kept.checkpoints.model_copy(update=own)


def _merged(old: tuple[TargetSection, ...], new: tuple[TargetSection, ...]) -> tuple[TargetSection, ...]:
    """Old targets with the new ones added; a target asked for again keeps its earlier precisions as well."""
    by_name = {s.name: s for s in old}
    for section in new:
        before = by_name.get(section.name)
        if before is not None and section.precisions is not None:
            earlier = before.precisions or targets.get(section.name).default_precisions
            precisions = tuple(dict.fromkeys((*earlier, *section.precisions)))
            section = section.model_copy(update={"precisions": precisions})
        by_name[section.name] = section
    return tuple(by_name.values())
