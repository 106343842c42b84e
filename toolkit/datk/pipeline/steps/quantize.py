"""Stage 40: NNCF on the exported program, with the target's own scheme."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datk.artifact.manifest import Metric
from datk.config.schema import SchemeSection
from datk.depth.io_spec import Size
from datk.depth.preprocess import bucket_image, read_image
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import calibration, qat, weights
from datk.targets.base import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "program.pt2"
COMPARED = 8
"""Calibration photographs on which both nets are held against the pseudo-labels."""


def run(target: Target, size: Size, changes: SchemeSection | None, stage: StageRun) -> Outcome:
    """Quantise the float student for one target at one bucket, calibrated on the set of stage 35 at that bucket.

    changes: of the recipe, to the target's own scheme. Weights that learnt under it (stage 38) take the student's
    place, and then the biases stay as they learnt.
    """
    from datk.models.deployment import deployment_module
    from datk.quantize.agreement import label_agreement
    from datk.quantize.calibration import input_tensor
    from datk.quantize.fake import learnable_scheme
    from datk.quantize.program import save_program
    from datk.quantize.ptq import quantize_module
    from datk.targets.scheme_changes import changed

    assert target.scheme is not None
    source = qat.source_of(stage)
    checkpoint = weights.read(stage.folder(source) / qat.FILE)
    scheme = changed(target.load(target.scheme)(), changes)
    found = calibration.read_set(stage.folder(calibration.NAME))
    images = [bucket_image(read_image(p.image), size) for p in found]
    taken = stage.manifest(calibration.NAME).facts.get("calibration_set")
    if taken is not None and tuple(taken["input_size"]) != size:
        made = "x".join(map(str, taken["input_size"]))
        stage.reporter.note(
            f"calibration set chosen and labelled at {made}; its photographs are resized to this bucket"
        )
    spec = checkpoint.net.encoder_spec
    target.check_encoder(spec.family if spec else None, "int8")
    module = deployment_module(checkpoint.net, size, target.input_form)
    program = quantize_module(
        module,
        images,
        learnable_scheme(scheme) if source.startswith(qat.PREFIX) else scheme,
        input_form=target.input_form,
        input_size=size,
        seed=stage.seed,
        min_images=calibration.FEWEST,
        names=[p.name for p in found],
        progress=stage.reporter.progress,
    )
    save_program(program, input_tensor(images[0], target.input_form), stage.out / FILE)
    labels = calibration.read_labels(stage.folder(calibration.NAME), found[:COMPARED])
    floating, quantised = (
        label_agreement(net, images[:COMPARED], labels, input_form=target.input_form, depth_kind=checkpoint.depth_kind)
        for net in (module, program)
    )
    return Outcome(
        datasets=stage.manifest(calibration.NAME).datasets,
        metrics={
            "calibration_images": Metric(value=len(images), unit="images", n=len(images)),
            "float_label_r": _median(floating),
            "int8_label_r": _median(quantised),
        },
        facts={"target": target.name, "input_size": list(size), "files": [p.name for p in found], "weights": source},
    )


def _median(values: NDArray[np.float64]) -> Metric:
    """Median correlation with the pseudo-labels over the photographs where it is defined."""
    defined = values[np.isfinite(values)]
    if defined.size == 0:
        return Metric(value=None, unit="1", n=len(values), not_measured="the net puts out a constant")
    return Metric(value=float(np.median(defined)), unit="1", n=int(defined.size))
