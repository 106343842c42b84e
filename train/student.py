"""The student: distilled from pseudo-labelled real photographs only; no synthetic image ever reaches it.

Source: Depth Anything V2 section 5.2: the teacher's losses on pseudo-labels, the 10 % of pixels with the largest
loss ignored, and V1's feature alignment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datk.artifact.files import sha256_file
from datk.config.train_sections import StudentSection
from datk.losses.feature_alignment import feature_alignment_loss
from datk.models.depth_anything import DepthAnything
from datk.train.features import Learner, feature_reference
from datk.train.fit_and_save import fit_and_save, training_set
from datk.train.loop import Progress, StepLoss
from datk.train.objective import depth_loss
from datk.train.pseudo_label import INDEX, load_labels
from datk.train.result import TrainResult
from datk.train.samples import Batch
from datk.train.sources import PseudoLabelSource
from datk.train.start import copy_of, fingerprint, fresh_net, net_from_checkpoint, weights_digest


def distill(
    section: StudentSection,
    pseudo_labels_dir: Path,
    teacher: DepthAnything,
    out: Path,
    *,
    seed: int,
    progress: Progress | None = None,
    stop_after: int | None = None,
    licence: str = "Apache-2.0",
) -> TrainResult:
    """Train on pseudo_labels_dir (what label_photos wrote); write out/student.safetensors and out/loss.csv.

    teacher: gives features (feature_source: teacher_encoder) or starting weights (init: teacher); its labels are
    read from the folder. It stays frozen and out of the student's file. licence: of the teacher's weights, which the
    student inherits. Resumes like train_teacher.
    Raises TrainingError, CheckpointError, DataError, UsageError, EnvironmentLacks.
    """
    source = PseudoLabelSource(load_labels(pseudo_labels_dir))
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
    )

    def step(batch: Batch, done: float) -> StepLoss:
        raw, tokens = net.forward_train(batch.image)
        dense = depth_loss(raw, net.activate(raw), batch.target, batch.valid, section.loss, done)
        if reference is None:
            return dense
        feature = feature_alignment_loss(
            learner.bridge(tokens).float(),
            reference(batch.clean).float(),
            margin=section.loss.feature_margin,
            margin_on=section.loss.feature_margin_on,
            mean_over=section.loss.feature_mean_over,
        )
        total = dense.total + section.loss.feature_weight * feature
        return StepLoss(total=total, parts={**dense.parts, "feature": feature}, output=dense.output)

    inputs: dict[str, Any] = {"seed": seed, "data": sha256_file(pseudo_labels_dir / INDEX)}
    if section.init == "teacher" or section.feature_source == "teacher_encoder":
        inputs["teacher"] = weights_digest(teacher)
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
            "training_data": "pseudo-labelled photographs",
            "licence": licence,
            "input_size": f"{section.input_size[0]}x{section.input_size[1]}",
        },
        fingerprint=fingerprint(section, **inputs),
        seed=seed,
        learner=learner,
        loss=section.loss,
        facts={"started_from": started_from, "feature_source": reference.name if reference else "off"},
        record={"size": section.size, "loss": section.loss.model_dump(mode="json")},
        sample_name=lambda number: str(source.photos[data.number(number)].image_path),
        progress=progress,
        stop_after=stop_after,
    )


def _starting_net(section: StudentSection, teacher: DepthAnything, seed: int) -> tuple[DepthAnything, str]:
    if section.init == "teacher":
        return copy_of(teacher, section.size), "teacher"
    if section.checkpoint is not None:
        return net_from_checkpoint(section.checkpoint, section.size, seed=seed)
    return fresh_net(section.size, seed=seed), "scratch"
