"""Stage 40: NNCF on the exported program, with the target's own scheme."""

from __future__ import annotations

from datk.artifact.manifest import Dataset, Metric
from datk.config.schema import PhotosSection, QuantizeSection
from datk.data.photos import check_held_out
from datk.depth.io_spec import Size
from datk.depth.preprocess import bucket_image, read_image
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import weights
from datk.pipeline.steps.photos import photo_set
from datk.targets.base import Target

FILE = "program.pt2"


def run(target: Target, size: Size, section: QuantizeSection, held_out: PhotosSection, stage: StageRun) -> Outcome:
    """Quantise the float student for one target at one bucket, calibrated on photographs at that bucket."""
    from datk.models.deployment import deployment_module
    from datk.quantize.calibration import input_tensor
    from datk.quantize.program import save_program
    from datk.quantize.ptq import quantize_module

    assert target.scheme is not None
    net = weights.read(stage.folder("30-student") / "student.safetensors").net
    photos = photo_set(section.images, "calibration", section.count, seed=stage.seed)
    check_held_out(photo_set(held_out.validation, "validation", None, seed=stage.seed).paths, photos.paths)
    images = [bucket_image(read_image(p), size) for p in photos.paths]
    module = deployment_module(net, size, target.input_form)
    program = quantize_module(
        module,
        images,
        target.load(target.scheme)(),
        input_form=target.input_form,
        input_size=size,
        seed=stage.seed,
        progress=stage.reporter.progress,
    )
    save_program(program, input_tensor(images[0], target.input_form), stage.out / FILE)
    return Outcome(
        datasets=[Dataset(name="calibration", split_sha256=photos.sha256, licence=photos.licence, n=len(images))],
        metrics={"calibration_images": Metric(value=len(images), unit="images", n=len(images))},
        facts={"target": target.name, "input_size": list(size), "files": photos.names},
    )
