"""Recipe -> stages, in order. The one place that knows which stage needs which."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from datk import targets
from datk.artifact.files import sha256_file
from datk.config.qat_section import QatSection
from datk.config.schema import PhotosSection, Recipe, SchemeSection, TargetSection
from datk.config.train_sections import OPERATIONAL, StudentSection
from datk.data.calibration_set import INDEX, is_calibration_set
from datk.data.sources import open_images
from datk.depth.io_spec import Size
from datk.errors import CheckpointError, DataError, RecipeError
from datk.evaluate.target_verdict import STAGE_PREFIX
from datk.pipeline.missing import require_all
from datk.pipeline.runs import PACK_PREFIX
from datk.pipeline.stage import Stage
from datk.pipeline.steps import (
    calibration,
    data,
    export,
    labels,
    metric,
    pack,
    qat,
    quantize,
    student,
    synthetic,
    teacher,
    validate,
    verdict,
)
from datk.pipeline.steps.photos import keys_sha256
from datk.pipeline.steps.weights import trained_size
from datk.pipeline.teachers import teacher_digest
from datk.targets.base import Target

TORCH = ("torch", "numpy", "opencv-python-headless")
DEPTH_CODE = ("depth/preprocess.py", "models")
LABEL_CODE = ("depth/label_quality.py", "depth/teacher.py", "train/pseudo_label.py", "train/labelling")
SHIP_CODE = ("depth/io_spec.py", "depth/preprocess.py", "artifact/verify.py", "pipeline/ship")
EXPORT_CODE = (
    *("targets/pt2e.py", "targets/scheme_changes.py", "targets/base.py"),
    *("targets/int8_layers.py", "targets/int8_record.py", "targets/op_lint.py", "targets/activation_range.py"),
    *("quantize/input_check.py", "quantize/layer_check.py", "evaluate/input_path.py"),
    "pipeline/steps/export_checks.py",
)
SCHEME_CODE = ("targets/pt2e.py", "targets/scheme_changes.py")
VERDICT_ROUNDS = 20
"""Interleaved rounds at most: the interval of a ratio of medians is then a few per cent wide on a quiet machine."""
VERDICT_CODE = (
    *("evaluate/verdict_rule.py", "evaluate/verdict_statistics.py", "evaluate/statistics.py", "measure/timing.py"),
    *("pipeline/running_cost.py", "pipeline/steps/verdict.py"),
)
DATA_CODE = ("data/sample.py", "data/order.py", "data/dataset.py", "data/adapters", "data/quarantine.py")


def stages_of(recipe: Recipe) -> list[Stage]:
    """Every stage of the recipe. Raises RecipeError, UsageError or EnvironmentLacks before anything runs."""
    require_all(recipe)
    weights = recipe.checkpoints
    stages: list[Stage] = []
    if recipe.needs_labelled:
        stages.append(_data(recipe) if recipe.data else _synthetic(recipe))
    if weights.teacher is not None or (recipe.teacher is not None and weights.student is None):
        stages.append(_teacher(recipe))
    if recipe.metric is not None:
        stages.append(_metric(recipe))
    elif weights.student is not None:
        stages.append(_student(recipe))
    elif recipe.student is not None:
        if recipe.student.uses_labels:
            stages.append(_labels(recipe))
        stages.append(_distilled(recipe, recipe.student, with_teacher=any(s.name == "10-teacher" for s in stages)))
    else:
        return stages
    before = tuple(s.name for s in stages)
    built = [stage for section in recipe.targets for stage in _target_stages(recipe, section, names=before)]
    stages.append(_validate_student(recipe, names=before))
    if any(s.verb == "quantize" for s in built):
        stages.append(_calibration(recipe, names=before))
    return [*stages, *built]


def _dump(section: BaseModel) -> dict[str, Any]:
    """What a stage depends on: a schedule without the fields that only say how the work is done."""
    trained = "schedule" in type(section).model_fields
    return section.model_dump(mode="json", exclude={"schedule": set(OPERATIONAL)} if trained else None)


def _data(recipe: Recipe) -> Stage:
    return Stage(
        name=data.NAME,
        verb="data",
        title=f"look at the labelled sets: {', '.join(s.name for s in recipe.data)}",
        run=partial(data.run, recipe.data),
        section={"sets": [s.model_dump(mode="json", exclude={"root", "listing"}) for s in recipe.data]},
        files=data.refs(recipe.data),
        code=("data/labelled_sets.py", "data/adapters", "data/dataset.py"),
    )


def _metric(recipe: Recipe) -> Stage:
    assert recipe.metric is not None
    start = recipe.metric.checkpoint
    return Stage(
        name="30-student",
        verb="metric",
        title="fine-tune to metric depth",
        run=partial(metric.run, recipe.metric, recipe.data),
        section=_dump(recipe.metric),
        needs=(data.NAME if recipe.data else "05-synthetic",),
        files=() if start is None else (_file_ref("start", str(start)),),
        together=True,
        tools=TORCH,
        code=(*DEPTH_CODE, "losses", "train", *DATA_CODE),
    )


def _synthetic(recipe: Recipe) -> Stage:
    return Stage(
        name="05-synthetic",
        verb="synthetic",
        title=f"render {recipe.synthetic.count} synthetic images",
        run=partial(synthetic.run, recipe.synthetic),
        section=_dump(recipe.synthetic),
        tools=("moderngl", "embreex", "trimesh", "numpy", "opencv-python-headless"),
        code=("data/synthetic",),
    )


def _teacher(recipe: Recipe) -> Stage:
    checkpoint = recipe.checkpoints.teacher
    if checkpoint is not None:
        return Stage(
            name="10-teacher",
            verb="teacher",
            title=f"load teacher {Path(checkpoint).name}",
            run=partial(teacher.load, checkpoint),
            section={},
            files=(("teacher", Path(checkpoint).name, teacher_digest(checkpoint)),),
            tools=("torch", "safetensors"),
            code=("models",),
        )
    assert recipe.teacher is not None
    return Stage(
        name="10-teacher",
        verb="teacher",
        title=f"train the teacher on {'labelled' if recipe.data else 'synthetic'} images",
        run=partial(teacher.train, recipe.teacher, recipe.data),
        section=_dump(recipe.teacher),
        needs=(data.NAME if recipe.data else "05-synthetic",),
        together=True,
        tools=TORCH,
        code=(*DEPTH_CODE, "losses", "train", *DATA_CODE),
    )


def _labels(recipe: Recipe) -> Stage:
    if recipe.photos.labels is not None:
        return Stage(
            name=labels.NAME,
            verb="pseudo-labels",
            title=f"take the pseudo-labels in {', '.join(recipe.photos.label_folders)}",
            run=partial(labels.take, recipe.photos),
            section={"images": recipe.photos.images},
            files=tuple(_file_ref("pseudo-labels", str(Path(f) / "index.json")) for f in recipe.photos.label_folders),
            code=("train/labelling",),
        )
    files = () if recipe.photos.images == "builtin" else (_images_ref("photos", recipe.photos.images),)
    return Stage(
        name="20-pseudo-labels",
        verb="pseudo-labels",
        title="label real photographs with the teacher",
        run=partial(labels.run, recipe.pseudo_labels, recipe.photos),
        section={**_dump(recipe.pseudo_labels), "images": recipe.photos.images},
        needs=("10-teacher",),
        files=files,
        tools=TORCH,
        code=(*DEPTH_CODE, *LABEL_CODE, "data/photos.py", "calibration_data/index.json"),
    )


def _student(recipe: Recipe) -> Stage:
    weights = recipe.checkpoints
    assert weights.student is not None
    return Stage(
        name="30-student",
        verb="student",
        title=f"load {Path(weights.student).name}",
        run=partial(student.load, Path(weights.student), weights.kind, weights.max_depth_m, weights.licence),
        section={"kind": weights.kind, "max_depth_m": weights.max_depth_m, "name": Path(weights.student).name}
        | ({"licence": weights.licence} if weights.licence else {}),
        files=(_file_ref("student", weights.student),),
        tools=("torch", "safetensors"),
        code=("models",),
    )


def _distilled(recipe: Recipe, section: StudentSection, *, with_teacher: bool) -> Stage:
    more = recipe.photos.more_labels
    if len(section.teacher_weights or (1.0,)) != 1 + len(more):
        raise RecipeError(
            f"{recipe.name}: student.teacher_weights and photos.more_labels do not belong together: the first share is "
            f"of this recipe's own teacher (or photos.labels), and one follows for each of {len(more)} further folders",
            hint="datk pseudo-label --teacher CKPT --images SRC --out DIR labels the same images with another teacher",
        )
    needs = ["10-teacher"] if with_teacher else []
    learnt = []
    if section.uses_labels:
        needs.append(labels.NAME)
        learnt.append("pseudo-labelled photographs")
    if section.uses_labelled:
        needs.append(data.NAME if recipe.data else "05-synthetic")
        learnt.append("labelled images")
    starts = {"start": section.checkpoint, "dinov2": section.dinov2_checkpoint}
    return Stage(
        name="30-student",
        verb="student",
        title=f"distil the student from {' and '.join(learnt)}",
        run=partial(student.distil, section, recipe.photos, recipe.data),
        section=_dump(section),
        needs=tuple(needs),
        files=(
            *(_file_ref(role, str(path)) for role, path in starts.items() if path is not None),
            *(_file_ref("more labels", str(Path(folder) / "index.json")) for folder in more),
        ),
        together=True,
        tools=TORCH,
        code=(*DEPTH_CODE, "losses", "train", *DATA_CODE),
    )


def _target_stages(recipe: Recipe, section: TargetSection, *, names: tuple[str, ...]) -> list[Stage]:
    target = targets.get(section.name)
    target.require()
    options = target_options(target, section.options)
    precisions = section.precisions or target.default_precisions
    trained = recipe.student.encoder if recipe.student is not None and recipe.checkpoints.student is None else None
    for precision in precisions:
        target.check_precision(precision)
        check_options(target, options, precision)
        target.check_encoder(trained.family if trained else None, precision)
    sizes = section.sizes(default_input_size(recipe))
    teachers = tuple(n for n in names if n == "10-teacher")
    own: list[Stage] = []
    parts: dict[str, list[pack.Part]] = {p: [] for p in precisions}
    for size in sizes:
        suffix = f"-{size[0]}x{size[1]}" if len(sizes) > 1 else ""
        if any(p == "int8" for p in precisions):
            if section.qat is not None:
                own.append(_qat(target, size, section.qat, section.scheme, recipe.photos, suffix))
            own.append(_quantize(target, size, section.scheme, suffix, learnt=section.qat is not None))
        built = [_artifact_stages(recipe, section, target, p, size, sizes, options, teachers) for p in precisions]
        own += [stage for pair in built for stage in pair]
        members = [
            verdict.Member(p, export.name, measured.name)
            for p, (export, measured) in zip(precisions, built, strict=True)
        ]
        own.append(_verdict(recipe, target, size, suffix, members))
        for member in members:
            parts[member.precision].append(pack.Part(size, member.export, member.validate))
    if len(sizes) > 1 and target.pack is not None:
        own += [_pack(target, precision, members) for precision, members in parts.items()]
    return own


def _pack(target: Target, precision: str, parts: list[pack.Part]) -> Stage:
    """After every size is judged, so that one that fails takes no other along."""
    return Stage(
        name=f"{PACK_PREFIX}{target.name}-{precision}",
        verb="pack",
        title=f"pack {len(parts)} sizes of {target.name} {precision} into one artifact",
        run=partial(pack.run, target, precision, parts),
        section={"target": target.name, "precision": precision, "sizes": [list(p.size) for p in parts]},
        needs=("30-student", *(name for p in parts for name in (p.export, p.validate))),
        any_of=tuple(p.validate for p in parts),
        tools=("torch", *target.tools, "cyclonedx-python-lib"),
        code=("pipeline/steps/pack.py", *SHIP_CODE, *_rooms_of(target)),
        sealed=True,
    )


def _verdict(recipe: Recipe, target: Target, size: Size, suffix: str, members: list[verdict.Member]) -> Stage:
    rounds = min(recipe.validation.latency_runs, VERDICT_ROUNDS)
    return Stage(
        name=f"{STAGE_PREFIX}{target.name}{suffix}",
        verb="verdict",
        title=f"which {target.name} precision to ship at {size[0]}x{size[1]}",
        run=partial(verdict.run, target, size, members, rounds, recipe.photos),
        section={
            "target": target.name,
            "input_size": list(size),
            "precisions": [m.precision for m in members],
            "rounds": rounds,
            "validation": recipe.photos.validation,
        },
        needs=tuple(name for m in members for name in (m.export, m.validate)),
        any_of=tuple(m.validate for m in members),
        tools=("numpy", *target.tools),
        code=(*VERDICT_CODE, *_rooms_of(target)),
    )


def _artifact_stages(
    recipe: Recipe,
    section: TargetSection,
    target: Target,
    precision: str,
    size: Size,
    sizes: tuple[Size, ...],
    options: Any,
    teachers: tuple[str, ...],
) -> list[Stage]:
    """Compile and measure one artifact; one of several buckets has its size in its name."""
    several = len(sizes) > 1
    name = f"{target.name}-{precision}" + (f"-{size[0]}x{size[1]}" if several else "")
    quantize_stage = f"40-quantize-{target.name}" + (f"-{size[0]}x{size[1]}" if several else "")
    learnt = (qat.PREFIX + quantize_stage.removeprefix("40-quantize-"),) if section.qat is not None else ()
    quantized = (*learnt, quantize_stage) if precision == "int8" else ()
    learnt = learnt if precision == "int8" else ()
    section_of_export = {
        "target": target.name,
        "precision": precision,
        "input_size": list(size),
        "options": section.options,
    }
    if several:
        section_of_export["buckets"] = [list(s) for s in sizes]
    changes = section.scheme if precision == "int8" else None
    section_of_export |= _changes(changes)
    return [
        Stage(
            name=f"50-export-{name}",
            verb="export",
            title=f"compile {target.name} {precision} at {size[0]}x{size[1]}",
            run=partial(export.run, target, precision, size, sizes, options, changes, recipe.photos),
            section=section_of_export,
            needs=("30-student", *quantized),
            tools=("torch", *target.tools, "cyclonedx-python-lib"),
            code=("models", *SHIP_CODE, *_rooms_of(target), *EXPORT_CODE),
            apart=True,
            sealed=True,
        ),
        Stage(
            name=f"60-validate-{name}",
            verb="validate",
            title=f"measure {name.replace('-', ' ')} against teacher and float student",
            run=partial(validate.artifact, f"50-export-{name}", target, precision, recipe.validation, recipe.photos),
            section={**_dump(recipe.validation), "validation": recipe.photos.validation}
            | {"count": recipe.photos.validation_count}
            | ({"not_run": reason} if (reason := target.cannot_run()) else {}),
            needs=("30-student", f"50-export-{name}", *learnt, *teachers),
            tools=("torch", "numpy", *target.tools),
            code=("evaluate", "depth", "models", "pipeline/bucket_cost.py", *_rooms_of(target)),
        ),
    ]


def _calibration(recipe: Recipe, *, names: tuple[str, ...]) -> Stage:
    """Labelled as the student's photographs were; an export of a checkpoint labels at its first bucket."""
    if recipe.quantize.images != "builtin" and is_calibration_set(Path(recipe.quantize.images)):
        return _calibration_taken(recipe, Path(recipe.quantize.images))
    files = () if recipe.quantize.images == "builtin" else (_folder_ref("calibration", recipe.quantize.images),)
    source, file = (
        ("10-teacher", "teacher.safetensors") if "10-teacher" in names else ("30-student", "student.safetensors")
    )
    section = recipe.pseudo_labels
    if recipe.student is None:
        size = next((s.sizes(default_input_size(recipe))[0] for s in recipe.targets), default_input_size(recipe))
        section = section.model_copy(update={"input_size": size})
    return Stage(
        name=calibration.NAME,
        verb="calibration",
        title="pseudo-label the calibration photographs",
        run=partial(calibration.run, f"{source}/{file}", recipe.quantize, section, recipe.photos),
        section={**_dump(recipe.quantize), "labels": _dump(section), "validation": recipe.photos.validation},
        needs=(source,),
        files=files,
        tools=TORCH,
        code=(*DEPTH_CODE, *LABEL_CODE, "data/photos.py"),
    )


def _calibration_taken(recipe: Recipe, folder: Path) -> Stage:
    """A set labelled before: its index stands for all of it, and the stage hashes what the index lists."""
    return Stage(
        name=calibration.NAME,
        verb="calibration",
        title=f"take the calibration set in {folder}",
        run=partial(calibration.take, folder, recipe.photos),
        section={"validation": recipe.photos.validation},
        files=(("calibration-set", str(folder / INDEX), sha256_file(folder / INDEX)),),
        tools=("opencv-python-headless",),
        code=("data/calibration_set.py", "data/phash.py", "pipeline/steps/calibration.py"),
    )


def _qat(
    target: Target, size: Size, section: QatSection, changes: SchemeSection | None, photos: PhotosSection, suffix: str
) -> Stage:
    files = () if photos.images == "builtin" else (_images_ref("photos", photos.images),)
    return Stage(
        name=f"{qat.PREFIX}{target.name}{suffix}",
        verb="qat",
        title=f"train under {target.name}'s int8 at {size[0]}x{size[1]}",
        run=partial(qat.run, target, size, section, changes, photos),
        section={"target": target.name, "input_size": list(size), "images": photos.images}
        | {"qat": section.model_dump(mode="json", exclude={"checkpoint_every_s"}), "validation": photos.validation}
        | _changes(changes),
        needs=("30-student", calibration.NAME),
        files=files,
        together=True,
        tools=("torch", "torchao", "nncf", "numpy", "opencv-python-headless"),
        code=("models", "quantize", "losses", "train", "depth/preprocess.py", *_rooms_of(target), *SCHEME_CODE),
    )


def _quantize(
    target: Target, size: Size, changes: SchemeSection | None, suffix: str = "", *, learnt: bool = False
) -> Stage:
    return Stage(
        name=f"40-quantize-{target.name}{suffix}",
        verb="quantize",
        title=f"quantise with NNCF for {target.name} at {size[0]}x{size[1]}",
        run=partial(quantize.run, target, size, changes),
        section={"target": target.name, "input_size": list(size)} | _changes(changes),
        needs=("30-student", *((f"{qat.PREFIX}{target.name}{suffix}",) if learnt else ()), calibration.NAME),
        tools=("torch", "torchao", "nncf"),
        code=("models", "quantize", "depth/preprocess.py", *_rooms_of(target), *SCHEME_CODE),
        apart=True,
    )


def _changes(changes: SchemeSection | None) -> dict[str, Any]:
    """Part of a stage's key, absent where the target's scheme stands."""
    return {} if changes is None else {"scheme": changes.model_dump(mode="json", exclude_none=True)}


def _validate_student(recipe: Recipe, *, names: tuple[str, ...]) -> Stage:
    teachers = tuple(n for n in names if n == "10-teacher")
    default = default_input_size(recipe)
    sizes = sorted({size for s in recipe.targets for size in s.sizes(default)}) or [default]
    return Stage(
        name="60-validate-student",
        verb="validate-student",
        title="measure the float student against the teacher",
        run=partial(validate.student, sizes[0], recipe.validation, recipe.photos),
        section={**_dump(recipe.validation), "validation": recipe.photos.validation, "input_size": list(sizes[0])},
        needs=("30-student", *teachers),
        tools=("torch", "numpy"),
        code=("evaluate", "depth", "models"),
    )


def default_input_size(recipe: Recipe) -> Size:
    """The size the student was trained at, where the recipe or the checkpoint tells; else the official 518x518."""
    if recipe.checkpoints.student is not None:
        return trained_size(Path(recipe.checkpoints.student)) or (518, 518)
    section = recipe.metric or recipe.student
    assert section is not None
    return section.input_size


def target_options(target: Target, values: dict[str, Any]) -> Any:
    """The target's own Options, checked. Raises RecipeError naming the keys."""
    if target.options is None:
        if values:
            raise RecipeError(f"target '{target.name}' has no options, found {', '.join(values)}")
        return None
    model = target.load(target.options)
    try:
        return model(**values)
    except ValidationError as error:
        told = [(e["loc"][0], e["msg"].removeprefix("Value error, ")) for e in error.errors()]
        lines = "\n".join(f"  targets.{target.name}.options.{key}: {why}" for key, why in told)
        raise RecipeError(f"options of target '{target.name}':\n{lines}") from error


def check_options(target: Target, options: Any, precision: str) -> None:
    """Raise RecipeError when the target's options exclude a precision: its Options say so in `refuses`, if they can."""
    refuses = getattr(options, "refuses", None)
    if refuses is not None and (why := refuses(precision)):
        raise RecipeError(f"target '{target.name}' {precision}: {why}", hint="leave one of the two out")


def _rooms_of(target: Target) -> tuple[str, ...]:
    """Source that changes a target's bytes; targets outside the tree are covered by their own version."""
    prefix = "datk.targets."
    own = f"targets/{target.package.removeprefix(prefix)}" if target.package.startswith(prefix) else "targets/base.py"
    return (own, *(f"targets/{name}" for name in target.builds_on))


def _file_ref(role: str, path: str) -> tuple[str, str, str]:
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file", hint="name a .pth or .safetensors checkpoint")
    return role, Path(path).name, sha256_file(Path(path))


def _images_ref(role: str, spec: str) -> tuple[str, str, str]:
    """A folder by its content, any other source by the names of its images."""
    if Path(spec).is_dir() or ":" not in spec:
        return _folder_ref(role, spec)
    return role, spec, keys_sha256(open_images(spec))


def _folder_ref(role: str, path: str) -> tuple[str, str, str]:
    if not Path(path).is_dir():
        raise DataError(f"{path}: no such image folder", hint="name a folder that holds .jpg or .png photographs")
    return role, path, sha256_file(Path(path))
