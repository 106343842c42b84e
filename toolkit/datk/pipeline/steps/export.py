"""Stage 50: compile one artifact, make its folder one to ship. Its own checks can reject it; it is kept either way."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from datk.artifact import verify
from datk.artifact.files import write_json
from datk.artifact.manifest import Metric, Verdict
from datk.config.schema import PhotosSection, SchemeSection
from datk.depth.io_spec import Bucket, Size
from datk.depth.preprocess import bucket_image, read_image
from datk.pipeline.ship.chain import chain_of_stages
from datk.pipeline.ship.golden import write_golden
from datk.pipeline.ship.kits import write_kits
from datk.pipeline.ship.notice import write_notice
from datk.pipeline.ship.sbom import write_sbom
from datk.pipeline.stage import Outcome, StageRun
from datk.pipeline.steps import qat, weights
from datk.pipeline.steps.export_checks import common_checks
from datk.pipeline.steps.photos import photo_set
from datk.targets.base import BuildRequest, BuildResult, Target

if TYPE_CHECKING:
    from torch import nn


def run(
    target: Target,
    precision: str,
    size: Size,
    sizes: Sequence[Size],
    options: Any,
    changes: SchemeSection | None,
    photos: PhotosSection,
    stage: StageRun,
) -> Outcome:
    """Compile into the stage folder: artifact, contract.json, golden/, verify.py, the target's extra files.

    sizes: every bucket of this export; each has a folder of its own beside this one. changes: to the target's int8
    scheme, of the recipe.
    """
    from datk.artifact.files import size_bytes
    from datk.models.deployment import deployment_module

    checkpoint = weights.read(stage.folder(qat.source_of(stage)) / qat.FILE)
    spec = checkpoint.net.encoder_spec
    target.check_encoder(spec.family if spec else None, precision)
    floating = deployment_module(checkpoint.net, size, target.input_form)
    module: nn.Module = floating
    scheme = None
    if precision == "int8":
        from datk.quantize.program import load_program
        from datk.targets.scheme_changes import changed

        module = load_program(stage.folder(quantized_by(stage)) / "program.pt2")
        scheme = changed(target.load(str(target.scheme))(), changes)
    held_out = photo_set(photos.validation, "validation", photos.validation_count, seed=stage.seed)
    images = [bucket_image(read_image(p), size) for p in held_out.paths]
    student = stage.manifest(qat.source_of(stage))
    result: BuildResult = target.load(target.build)(
        BuildRequest(
            module=module,
            precision=precision,
            input_size=size,
            depth_kind=checkpoint.depth_kind,
            max_depth_m=checkpoint.max_depth_m,
            photos=images,
            float_module=floating,
            scheme=scheme,
            metadata={
                "weights_sha256": student.weights[0].sha256,
                "weights_licence": student.weights[0].licence,
                "preset": checkpoint.preset.name,
            },
            options=options,
            out=stage.out,
        )
    )
    contract = result.contract.model_copy(
        update={
            "artifact": result.artifact.relative_to(stage.out).as_posix(),
            "buckets": buckets_of(target.name, precision, size, sizes),
        }
    )
    write_json(stage.out / verify.CONTRACT, contract.model_dump(mode="json"))
    chain = chain_of_stages(stage.folder("30-student").parent, list(stage.needs))
    write_notice(stage.out, chain, contract, tools=("torch", *target.tools))
    write_golden(stage.out, target, result.artifact, contract, floating)
    sbom = write_sbom(stage.out, contract, chain, tools=("torch", *target.tools))
    kits = write_kits(stage.out, contract)
    shutil.copyfile(verify.__file__, stage.out / "verify.py")
    checks = result.checks | common_checks(target, checkpoint, module, floating, result, images, options)
    failed = [f"{name}: {check['detail']}" for name, check in checks.items() if check["status"] == "failed"]
    return Outcome(
        contract=contract,
        weights=student.weights,
        checks=checks | {"sbom": sbom},
        metrics={"size_bytes": Metric(value=size_bytes(result.artifact), unit="bytes", n=1, higher_is_better=False)},
        facts={
            "target": target.name,
            "precision": precision,
            "artifact": contract.artifact,
            "kits": kits,
            "licences": [asdict(link) | {"commercial_use": link.use} for link in chain],
        },
        verdict=Verdict(status="rejected", reasons=failed) if failed else None,
        failed_stage="export" if failed else None,
    )


def quantized_by(stage: StageRun) -> str:
    """Name of the stage that quantised this artifact's program."""
    return next(name for name in stage.needs if name.startswith("40-quantize-"))


def buckets_of(target: str, precision: str, size: Size, sizes: Sequence[Size]) -> tuple[Bucket, ...]:
    """What the contract says of all sizes of an export; nothing where there is one."""
    if len(sizes) < 2:
        return ()
    folders = {s: f"../50-export-{target}-{precision}-{s[0]}x{s[1]}" for s in sizes}
    return tuple(Bucket(input_size=s, folder="." if s == size else folders[s]) for s in sizes)
