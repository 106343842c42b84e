"""`datk data calibration build`: label candidates, group them into kinds of scenes, draw evenly, write the folder.

Everything is made in a hidden folder beside the wanted one and renamed when it is complete; labels are kept shard by
shard, so that the same line goes on after Ctrl-C, a kill or a full disk.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datk.artifact.files import atomic_path, sha256_file, sha256_json, write_json
from datk.artifact.provenance import tool_versions
from datk.config.train_sections import PseudoLabelSection
from datk.data.calibration_set import (
    INDEX,
    CalibrationEntry,
    CalibrationSet,
    SceneKind,
    check_files,
    is_calibration_set,
    read_calibration_set,
    set_digest,
)
from datk.data.phash import distances
from datk.data.scene_kinds import Kinds, appearance_statistics, depth_statistics, draw, scene_kinds
from datk.depth.io_spec import Size
from datk.depth.preprocess import bucket_image, list_images, read_image
from datk.errors import DataError, UsageError
from datk.pipeline.build_stage import part_of
from datk.pipeline.execute import locked
from datk.pipeline.runs import STUDENT, newest_run
from datk.pipeline.stage import Reporter, source_digest
from datk.pipeline.steps.calibration import FEWEST
from datk.pipeline.steps.photos import PhotoSet, PhotoSource, photo_set
from datk.pipeline.steps.teacher import spec_of
from datk.pipeline.steps.weights import trained_size
from datk.pipeline.teachers import open_teacher

if TYPE_CHECKING:
    from datk.depth.teacher import Teacher
    from datk.train.labelling.keep_out import KeepOut

CANDIDATES = "candidates"
PER_PHOTO = 3
"""Candidates labelled for each photograph wanted, where there are so many."""
SHARD = 32
"""Candidates a shard of labels: what an interruption may cost."""
DUPLICATE_BITS = 4
"""Two candidates whose 64-bit hashes differ in no more bits are one photograph twice, or frames of one moment."""
TOOLS = ("torch", "numpy", "opencv-python-headless")
CODE = ("data/scene_kinds.py", "data/phash.py", "depth/preprocess.py", "depth/teacher.py", "train/labelling/shard.py")


@dataclass(frozen=True)
class BuildRequest:
    """What was typed."""

    images: str = "builtin"
    """Folder, or "builtin": the photographs datk ships for calibration."""
    out: Path = Path("calibration")
    count: int = 300
    teacher: str | None = None
    input_size: Size | None = None
    kinds: int = 12
    candidates: int | None = None
    """None: PER_PHOTO times count."""
    keep_out: tuple[Path, ...] = ()
    leak_distance: int = 8
    seed: int = 0


@dataclass(frozen=True)
class BuildPlan:
    """What a request comes to. said: what was taken by default, in words."""

    key: str
    teacher: str
    input_size: Size
    section: PseudoLabelSection
    found: int
    """Photographs in the source."""
    candidates: PhotoSet
    record: dict[str, Any]
    """Of the labelling job: teacher, arithmetic."""
    keep_out: KeepOut
    state: str
    """"built": the very set lies there. "begun": an interrupted attempt of the same line. "new"."""
    said: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "photographs_found": self.found,
            "candidates": len(self.candidates.paths),
            "input_size": list(self.input_size),
            "teacher": {k: self.record["teacher"][k] for k in ("name", "source", "digest", "licence")},
            "kept_out_sets": self.keep_out.sets,
            "notes": list(self.keep_out.notes),
            "state": self.state,
        }


def plan_build(request: BuildRequest) -> BuildPlan:
    """Look at teacher, photographs and benchmarks; writes nothing. Raises UsageError, DataError or CheckpointError."""
    teacher, plan = _opened(request)
    teacher.close()
    return plan


def build(request: BuildRequest, *, reporter: Reporter) -> tuple[CalibrationSet, bool]:
    """The set, and whether it was built now; the same request finds a finished one, its files checked again.

    Raises UsageError when something else lies at `out`, DataError when fewer than FEWEST photographs are usable or
    the teacher's map is not finite.
    """
    teacher, plan = _opened(request)
    try:
        for line in [*plan.said, *plan.record["teacher"]["notes"], *plan.keep_out.notes]:
            reporter.note(line)
        if plan.state == "built":
            found = read_calibration_set(request.out)
            check_files(request.out, found)
            return found, False
        part = part_of(request.out)
        with locked(part):
            _keep_only(plan.key, part, reporter)
            if not is_calibration_set(part):
                _make(request, plan, teacher, part, reporter)
            shutil.rmtree(part / CANDIDATES, ignore_errors=True)
            (part / "key").unlink()
            (part / ".lock").unlink()
            part.replace(request.out)
    finally:
        teacher.close()
    return read_calibration_set(request.out), True


def _opened(request: BuildRequest) -> tuple[Teacher, BuildPlan]:
    from datk.train.labelling.job import describe

    if request.count < FEWEST:
        raise UsageError(f"--count {request.count}: at least {FEWEST} photographs are needed", hint="100 to 300 do")
    said: list[str] = []
    spec = request.teacher or _teacher_of_newest_run(said)
    size = request.input_size or _own_size(spec, said)
    found, candidates = _candidates(request, said)
    section = PseudoLabelSection(input_size=size, shard_size=SHARD, leak_distance=request.leak_distance)
    keep_out = _kept_out(request)
    teacher = open_teacher(spec, section)
    try:
        record = describe(teacher, PhotoSource(candidates, name=request.images), section, keep_out)
        asked = {k: v for k, v in asdict(request).items() if k in ("count", "kinds", "leak_distance", "seed")}
        identity = {
            "job": record["key"],
            "candidates": candidates.sha256,
            "asked": asked,
            "code": {room: source_digest(room) for room in CODE},
        }
        key = sha256_json(identity)
        state = _state(request.out, key)
    except BaseException:
        teacher.close()
        raise
    return teacher, BuildPlan(key, spec, size, section, found, candidates, record, keep_out, state, said)


def _teacher_of_newest_run(said: list[str]) -> str:
    run = newest_run()
    spec = spec_of(run / "10-teacher") or str(run / STUDENT / "student.safetensors")
    said.append(f"no --teacher: {spec}")
    return spec


def _own_size(spec: str, said: list[str]) -> Size:
    size = trained_size(Path(spec)) or (518, 518)
    said.append(f"no --input-size: {size[0]}x{size[1]}")
    return size


def _candidates(request: BuildRequest, said: list[str]) -> tuple[int, PhotoSet]:
    """(photographs in the source, those to be labelled), drawn by seed before anything is hashed."""
    wanted = request.candidates or PER_PHOTO * request.count
    if request.images == "builtin":
        said.append("no --images: the photographs datk ships for calibration")
        every = photo_set("builtin", "calibration", None, seed=request.seed)
        return len(every.paths), photo_set("builtin", "calibration", wanted, seed=request.seed)
    root = Path(request.images)
    paths = list_images(root)
    chosen = sorted(random.Random(request.seed).sample(paths, wanted)) if wanted < len(paths) else paths
    return len(paths), PhotoSet(
        paths=chosen,
        names=[p.relative_to(root).as_posix() for p in chosen],
        sha256=sha256_json(sorted(sha256_file(p) for p in chosen)),
        licence="the user's own",
    )


def _kept_out(request: BuildRequest) -> KeepOut:
    """Benchmarks of point pairs and of measured depth at hand, photographs that judge exports, and folders named."""
    from datk.data.photos import builtin_folder, builtin_photos
    from datk.train.labelling.keep_out import benchmarks_at_hand, joined, keep_out_of

    judged = [p.path for p in builtin_photos("validation")]
    name = "datk's validation photographs"
    validation = keep_out_of({name: judged}, roots={name: builtin_folder()})
    return joined(benchmarks_at_hand(request.keep_out), validation)


def _state(out: Path, key: str) -> str:
    """Raises UsageError when something else lies there."""
    if is_calibration_set(out) and read_calibration_set(out).key == key:
        return "built"
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        other = "a calibration set of another request" if is_calibration_set(out) else "something else"
        raise UsageError(f"--out {out}: {other} lies there", hint="name another folder with --out")
    kept = part_of(out) / "key"
    return "begun" if kept.is_file() and kept.read_text(encoding="utf-8") == key else "new"


def _keep_only(key: str, part: Path, reporter: Reporter) -> None:
    """Go on with what an attempt of the same request left; what another left is thrown away, and told."""
    kept = part / "key"
    if kept.is_file() and kept.read_text(encoding="utf-8") == key:
        reporter.note(f"going on with {part}")
        return
    for old in part.iterdir():
        if old.name != ".lock":
            reporter.note(f"{old}: left by another request, thrown away")
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    with atomic_path(kept) as written:
        written.write_text(key, encoding="utf-8")


def _make(request: BuildRequest, plan: BuildPlan, teacher: Teacher, part: Path, reporter: Reporter) -> None:
    """Label, choose, copy; the index last."""
    from datk.train.labelling.read import label_lines, left_out, open_labels
    from datk.train.pseudo_label import label_images

    source = PhotoSource(plan.candidates, name=request.images)
    folder = part / CANDIDATES
    label_images(
        teacher,
        source,
        folder,
        plan.section,
        keep_out=plan.keep_out,
        progress=lambda done, total: reporter.progress(done, total, "label candidates"),
    )
    reasons = left_out(folder)
    lines = label_lines(folder)
    if len(reasons) == len(source):
        _refuse(0, plan, reasons)
    labels = open_labels(folder)
    try:
        rows: dict[int, dict[str, float]] = {}
        hashes = np.empty(0, np.uint64)
        for number, path in enumerate(plan.candidates.paths):
            reporter.progress(number + 1, len(source), "look at depth and appearance")
            if number in reasons:
                continue
            image = bucket_image(read_image(path), plan.input_size)
            own = int(lines[number]["phash"], 16)
            if bool((image == image[:1, :1]).all()):
                reasons[number] = f"one flat colour at {plan.input_size[0]}x{plan.input_size[1]}"
            elif len(hashes) and int(distances(own, hashes).min()) <= DUPLICATE_BITS:
                twin = list(rows)[int(distances(own, hashes).argmin())]
                reasons[number] = f"nearly the same as {plan.candidates.names[twin]}"
            else:
                index = labels.index_of(number)
                assert index is not None, "a label that is not left out is usable"
                rows[number] = depth_statistics(labels.label(index)) | appearance_statistics(image)
                hashes = np.append(hashes, np.uint64(own))
        if len(rows) < FEWEST:
            _refuse(len(rows), plan, reasons)
        if len(rows) < request.count:
            reporter.note(f"{len(rows)} of {request.count} photographs asked for: no more are usable")
        numbers = list(rows)
        kinds = scene_kinds(list(rows.values()), request.kinds, seed=request.seed)
        chosen = draw(kinds.of, request.count, seed=request.seed)
        entries = []
        for place, index in enumerate(chosen):
            number = numbers[index]
            place_of_label = labels.index_of(number)
            assert place_of_label is not None
            written = _copy(part, place, plan, number, labels.encoded(place_of_label), lines[number])
            entries.append(written.model_copy(update={"kind": int(kinds.of[index])}))
            reporter.progress(place + 1, len(chosen), "write the set")
    finally:
        labels.close()
    value = _index(request, plan, entries, kinds, [int(kinds.of[i]) for i in chosen], reasons)
    write_json(part / INDEX, value.model_dump(mode="json"))


def _refuse(usable: int, plan: BuildPlan, reasons: dict[int, str]) -> None:
    first = "; ".join(f"{plan.candidates.names[n]}: {why}" for n, why in sorted(reasons.items())[:3])
    raise DataError(
        f"{usable} of {len(plan.candidates.paths)} photographs are usable, at least {FEWEST} are needed; left out: "
        f"{first or 'none'}",
        hint="name a folder with more photographs like those the device will see; 100 to 300 do",
    )


def _copy(part: Path, place: int, plan: BuildPlan, number: int, label: bytes, line: dict[str, Any]) -> CalibrationEntry:
    """Write one photograph and its label. Raises DataError when the photograph changed since it was labelled."""
    path = plan.candidates.paths[number]
    file = f"photos/{place:04d}{path.suffix.lower()}"
    with atomic_path(part / file) as copy:
        shutil.copyfile(path, copy)
    if sha256_file(part / file) != line["image_sha256"]:
        raise DataError(f"{path}: changed while the set was built", hint="run the same line again")
    name = f"labels/{place:04d}.png"
    with atomic_path(part / name) as copy:
        copy.write_bytes(label)
    return CalibrationEntry(
        name=plan.candidates.names[number],
        file=file,
        sha256=line["image_sha256"],
        phash=line["phash"],
        kind=0,
        label=name,
        label_sha256=line["sha256"],
    )


def _index(
    request: BuildRequest,
    plan: BuildPlan,
    entries: list[CalibrationEntry],
    kinds: Kinds,
    taken: list[int],
    reasons: dict[int, str],
) -> CalibrationSet:
    keep_out = {"sets": plan.keep_out.sets, "sha256": plan.keep_out.digest, "max_distance": request.leak_distance}
    return CalibrationSet(
        sha256=set_digest(entries, plan.input_size),
        key=plan.key,
        input_size=plan.input_size,
        seed=request.seed,
        asked=request.count,
        source=request.images,
        licence=plan.candidates.licence,
        teacher={k: plan.record["teacher"][k] for k in ("name", "source", "digest", "licence", "depth_kind")},
        keep_out=keep_out | {"notes": list(plan.keep_out.notes)},
        tools=tool_versions(TOOLS),
        kinds=[
            SceneKind(name=name, candidates=size, taken=taken.count(kind), means=means)
            for kind, (name, size, means) in enumerate(zip(kinds.names, kinds.sizes, kinds.means, strict=True))
        ],
        photos=entries,
        left_out=[{"name": plan.candidates.names[n], "reason": why} for n, why in sorted(reasons.items())],
    )
