"""Stage 38: the float student learns under a target's int8 what the rounding costs; what it writes is float again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from datk.artifact.manifest import Dataset, Metric
from datk.config.qat_section import QatSection
from datk.config.schema import PhotosSection, SchemeSection
from datk.data.photos import check_held_out
from datk.depth.io_spec import Size
from datk.depth.preprocess import bucket_image, bucket_tensor, read_image
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import calibration, weights
from datk.pipeline.steps.photos import photo_set, training_images
from datk.pipeline.steps.training import training_outcome
from datk.targets.base import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datk.models.depth_anything import DepthAnything
    from datk.quantize.fake import FakeQuantised

PREFIX = "38-qat-"
STUDENT = "30-student"
FILE = "student.safetensors"
COMPARED = 8
"""Calibration photographs on which the fake-quantised net is held against the float one, before and after."""


def source_of(stage: StageRun) -> str:
    """The needed stage whose weights an int8 artifact is made from: those that learnt under it, else the student's."""
    return next((name for name in stage.needs if name.startswith(PREFIX)), STUDENT)


def run(
    target: Target,
    size: Size,
    section: QatSection,
    changes: SchemeSection | None,
    photos: PhotosSection,
    stage: StageRun,
) -> Outcome:
    """Train on the recipe's photographs, at the bucket, against the float student. Resumes after Ctrl-C.

    changes: of the recipe, to the target's own scheme. Raises DataError when a photograph is also held out.
    """
    from datk.quantize.fake import fake_quantised
    from datk.targets.scheme_changes import changed
    from datk.train.qat import train_quantised

    assert target.scheme is not None
    checkpoint = weights.read(stage.folder(STUDENT) / FILE)
    spec = checkpoint.net.encoder_spec
    target.check_encoder(spec.family if spec else None, "int8")
    learnt_from = training_images(photos.images, seed=stage.seed)
    check_held_out(photo_set(photos.validation, "validation", None, seed=stage.seed).paths, learnt_from.paths)
    found = calibration.read_set(stage.folder(calibration.NAME))
    images = [bucket_image(read_image(p.image), size) for p in found]
    scheme = changed(target.load(target.scheme)(), changes)
    fake = fake_quantised(
        checkpoint.net,
        images,
        scheme,
        input_form=target.input_form,
        input_size=size,
        seed=stage.seed,
        min_images=calibration.FEWEST,
        names=[p.name for p in found],
    )
    before = _against_float(fake, checkpoint.net, images[:COMPARED])
    float_sha256 = checkpoint.sha256
    result = train_quantised(
        section,
        checkpoint.net,
        fake,
        learnt_from.source,
        stage.out,
        input_size=size,
        seed=stage.seed,
        metadata={
            "role": "student",
            "training_data": "the float student's own maps of photographs",
            "licence": checkpoint.licence,
            "input_size": f"{size[0]}x{size[1]}",
            "learnt_under": f"{target.name} int8",
            "float_sha256": float_sha256,
        },
        made_from={
            "target": target.name,
            "calibration": stage.manifest(calibration.NAME).digest,
            "scheme": str(changes),
        },
        progress=stage.reporter.progress,
    )
    after = _against_float(fake, checkpoint.net, images[:COMPARED])
    stage.reporter.note(f"r with the float student, {COMPARED} photographs not trained on: {before:.5f} -> {after:.5f}")
    outcome = training_outcome(
        result,
        name=f"{checkpoint.preset.name}, learnt under {target.name} int8",
        datasets=[
            Dataset(
                name="train", split_sha256=learnt_from.sha256, licence=learnt_from.licence, n=len(learnt_from.source)
            ),
            *stage.manifest(calibration.NAME).datasets,
        ],
        licence=checkpoint.licence,
    )
    n = min(COMPARED, len(images))
    return replace(
        outcome,
        metrics=outcome.metrics | {"float_r_before": _metric(before, n), "float_r_after": _metric(after, n)},
        facts=outcome.facts
        | {
            "target": target.name,
            "input_size": list(size),
            "float_sha256": float_sha256,
            "scheme": changes.model_dump(mode="json", exclude_none=True) if changes else "the target's own",
            "seed": stage.seed,
            "budget": result.fit.budget,
        },
    )


def _against_float(fake: FakeQuantised, floating: DepthAnything, images: list[NDArray[np.uint8]]) -> float:
    """Median correlation of the fake-quantised map with the float one; nan where one is constant."""
    import torch

    from datk.evaluate.metrics import correlation

    fake.learner.to("cpu").eval()
    floating.to("cpu")
    found: list[float] = []
    with torch.no_grad():
        for image in images:
            x = torch.from_numpy(bucket_tensor(image))  # (1, 3, h, w)
            found.append(correlation(fake.learner(x)[0][0].numpy(), floating(x)[0].numpy()))
    return float(np.median(found))


def _metric(r: float, n: int) -> Metric:
    if not np.isfinite(r):
        return Metric(value=None, unit="1", n=n, not_measured="a map is constant")
    return Metric(value=r, unit="1", n=n)
