"""Stage 50: compile one artifact. Its own checks can reject it; it is kept either way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datk.artifact.files import write_json
from datk.artifact.manifest import Metric, Verdict
from datk.config.schema import PhotosSection
from datk.depth.io_spec import Size
from datk.depth.preprocess import bucket_image, read_image
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import weights
from datk.pipeline.steps.photos import photo_set
from datk.targets.base import BuildRequest, BuildResult, Target

if TYPE_CHECKING:
    from torch import nn


def run(target: Target, precision: str, size: Size, options: Any, photos: PhotosSection, stage: StageRun) -> Outcome:
    """Compile into the stage folder: artifact, contract.json, the target's extra files."""
    from datk.artifact.files import size_bytes
    from datk.models.deployment import deployment_module

    checkpoint = weights.read(stage.folder("30-student") / "student.safetensors")
    spec = checkpoint.net.encoder_spec
    target.check_encoder(spec.family if spec else None, precision)
    floating = deployment_module(checkpoint.net, size, target.input_form)
    module: nn.Module = floating
    if precision == "int8":
        from datk.quantize.program import load_program

        module = load_program(stage.folder(f"40-quantize-{target.name}") / "program.pt2")
    held_out = photo_set(photos.validation, "validation", photos.validation_count, seed=stage.seed)
    student = stage.manifest("30-student")
    result: BuildResult = target.load(target.build)(
        BuildRequest(
            module=module,
            precision=precision,
            input_size=size,
            depth_kind=checkpoint.depth_kind,
            max_depth_m=checkpoint.max_depth_m,
            photos=[bucket_image(read_image(p), size) for p in held_out.paths],
            float_module=floating,
            metadata={
                "weights_sha256": student.weights[0].sha256,
                "weights_licence": student.weights[0].licence,
                "preset": checkpoint.preset.name,
            },
            options=options,
            out=stage.out,
        )
    )
    write_json(stage.out / "contract.json", result.contract.model_dump(mode="json"))
    failed = [f"{name}: {check['detail']}" for name, check in result.checks.items() if check["status"] == "failed"]
    return Outcome(
        contract=result.contract,
        weights=student.weights,
        checks=result.checks,
        metrics={"size_bytes": Metric(value=size_bytes(result.artifact), unit="bytes", n=1, higher_is_better=False)},
        facts={
            "target": target.name,
            "precision": precision,
            "artifact": result.artifact.relative_to(stage.out).as_posix(),
        },
        verdict=Verdict(status="rejected", reasons=failed) if failed else None,
        failed_stage="export" if failed else None,
    )
