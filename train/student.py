"""The student: distilled from pseudo-labelled real photographs; no synthetic image reaches it unless a recipe says so.

Source: Depth Anything V2 section 5.2: the teacher's losses on pseudo-labels, the 10 % of pixels with the largest
loss ignored, and V1's feature alignment. One key away: labelled images beside them (V1, V2's Table 5), several teachers
and cross-context distillation (Distill-Any-Depth).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datk.artifact.files import sha256_file
from datk.config.beyond_sections import LabelledSection
from datk.config.train_sections import StudentSection
from datk.data.sources import ImageSource
from datk.errors import UsageError
from datk.models.depth_anything import DepthAnything
from datk.train.cross_context import cross_context
from datk.train.end_to_end import EndToEnd
from datk.train.features import Learner, feature_reference
from datk.train.fit_and_save import TrainingSet, fit_and_save, training_set
from datk.train.guarded import guarded
from datk.train.labelled import LabelledSets, LabelledSource, labelled_digest, labelled_name, labelled_source
from datk.train.labelling.read import open_labels
from datk.train.loop import Progress
from datk.train.mixed import MixedBatches
from datk.train.pseudo_label import INDEX
from datk.train.result import TrainResult
from datk.train.samples import Batches, order_of
from datk.train.several_teachers import LabelSource, several_teachers
from datk.train.sources import PseudoLabelSource
from datk.train.start import begun_from, copy_of, fingerprint, fresh_net, net_from_checkpoint, weights_digest
from datk.train.student_step import StudentStep


def distill(
    section: StudentSection,
    pseudo_labels: Path | Sequence[Path] | None,
    teacher: DepthAnything | None,
    out: Path,
    *,
    seed: int,
    progress: Progress | None = None,
    stop_after: int | None = None,
    licence: str = "Apache-2.0",
    labelled: Path | LabelledSets | None = None,
    images: ImageSource | Sequence[ImageSource] | None = None,
) -> TrainResult:
    """Train on pseudo_labels (what label_images wrote); write out/student.safetensors and out/loss.csv.

    pseudo_labels: one folder, one for each of section.teacher_weights, or without these several that are put end to
    end, then with as many `images`; None with learn_from: labelled. teacher: gives features (feature_source:
    teacher_encoder), starting weights (init: teacher) or labels of closer looks (cross_context); its other labels are
    read from the folder; None for one that is not our net. It stays frozen and out of the student's file. licence: of
    the teacher's weights, which the student inherits. labelled: data sets, or a folder of rendered images, where the
    section learns from them. images: what the labels belong to, by default opened where they were labelled. Resumes
    like train_teacher.
    Raises TrainingError, CheckpointError, DataError, UsageError, EnvironmentLacks.
    """
    folders = [pseudo_labels] if isinstance(pseudo_labels, Path) else list(pseudo_labels or ())
    exact = _labelled_source(section, labelled, out)
    source: LabelledSource
    if exact is not None and section.learn_from == "labelled":
        source = exact
    else:
        source = guarded(_labelled_photos(folders, images, section), out)
    net, started_from = _starting_net(section, teacher, seed)
    reference = feature_reference(section, teacher)
    learner = Learner(net, reference.dim if reference else None, seed=seed)
    data = training_set(
        source,
        section.schedule,
        input_size=section.input_size,
        augment=section.augment,
        seed=seed,
        keep_clean=reference is not None,
        cross_context=section.cross_context,
    )
    if section.labelled is not None and exact is not None:
        data = _mixed(data, exact, section, section.labelled, seed)

    def sample_name(number: int) -> str:
        if number < data.images or exact is None:
            return source.key(data.number(number))
        return exact.key(number - data.images)

    context = cross_context(section.cross_context, section.loss, teacher)
    step = StudentStep(section, net, learner, reference, context)

    inputs: dict[str, Any] = {"seed": seed, "data": [sha256_file(folder / INDEX) for folder in folders]}
    if exact is not None and labelled is not None:
        inputs["labelled"] = labelled_digest(labelled)
    asked = section.init == "teacher" or section.feature_source == "teacher_encoder" or context is not None
    if teacher is not None and asked:
        inputs["teacher"] = weights_digest(teacher)
    if section.encoder is not None and section.encoder.weights is not None:
        inputs["encoder"] = weights_digest(net.pretrained)
    for role, path in (("start", section.checkpoint), ("dinov2", section.dinov2_checkpoint)):
        if path is not None:
            inputs[role] = sha256_file(path)
    return fit_and_save(
        net,
        step,
        data,
        section.schedule,
        out,
        name="student",
        metadata={
            "role": "student",
            "training_data": " and ".join(_learnt_from(section, labelled)),
            "licence": licence,
            "input_size": f"{section.input_size[0]}x{section.input_size[1]}",
        },
        fingerprint=fingerprint(section, **inputs),
        seed=seed,
        learner=learner,
        loss=section.loss,
        facts={"started_from": started_from, "feature_source": reference.name if reference else "off"},
        record={"size": section.size, "loss": section.loss.model_dump(mode="json")},
        sample_name=sample_name,
        progress=progress,
        stop_after=stop_after,
    )


def _labelled_photos(
    folders: Sequence[Path], images: ImageSource | Sequence[ImageSource] | None, section: StudentSection
) -> LabelSource | EndToEnd:
    labels = [open_labels(folder) for folder in folders]
    if not isinstance(images, Sequence):
        return several_teachers(labels, images, section.teacher_weights)
    if section.teacher_weights is not None:
        return several_teachers(labels, images[0], section.teacher_weights)
    return EndToEnd([PseudoLabelSource(folder, source) for folder, source in zip(labels, images, strict=True)])


def _labelled_source(section: StudentSection, labelled: Path | LabelledSets | None, out: Path) -> LabelledSource | None:
    if not section.uses_labelled:
        return None
    if labelled is None:
        raise UsageError("the student is to learn from labelled images, but no images with depth are given")
    return labelled_source(labelled, out)


def _learnt_from(section: StudentSection, labelled: Path | LabelledSets | None) -> list[str]:
    """In words, for the file."""
    found = ["pseudo-labelled photographs"] if section.uses_labels else []
    if section.uses_labelled and labelled is not None:
        found.append(labelled_name(labelled))
    return found


def _mixed(
    data: TrainingSet, exact: LabelledSource, section: StudentSection, labelled: LabelledSection, seed: int
) -> TrainingSet:
    """The set with labelled images among its batches; the validation pictures stay what they are."""
    unlabelled = data.batches
    assert isinstance(unlabelled, Batches)
    beside = Batches(
        exact,
        input_size=section.input_size,
        augment=labelled.augment,
        batch_size=section.schedule.batch_size,
        seed=seed + 1,
        keep_clean=unlabelled.keep_clean,
        order=order_of(exact),
    )
    return replace(data, batches=MixedBatches(unlabelled, beside, labelled.every))


def _starting_net(section: StudentSection, teacher: DepthAnything | None, seed: int) -> tuple[DepthAnything, str]:
    if section.init == "teacher":
        if teacher is None:
            raise UsageError("init: teacher, but the teacher is not one of our nets", hint="use init: scratch")
        return copy_of(teacher, section.size), "teacher"
    if section.checkpoint is not None:
        return net_from_checkpoint(section.checkpoint, section.size, seed=seed)
    return fresh_net(section.size, seed=seed, encoder=section.encoder), begun_from(section.encoder)
