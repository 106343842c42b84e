"""The one place where --teacher becomes a teacher, whoever made it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datk.artifact.files import sha256_file
from datk.config.train_sections import PseudoLabelSection
from datk.errors import CheckpointError

if TYPE_CHECKING:
    from datk.data.sources import ImageSource
    from datk.depth.teacher import Teacher


def open_teacher(
    spec: str, section: PseudoLabelSection, *, device: str = "auto", precision: str = "auto", source: str | None = None
) -> Teacher:
    """spec: our own checkpoint, any official one (.pth, .safetensors), or a model from elsewhere (hf:, marigold:).

    section: at what size ours sees a photograph; others have a size of their own. source: what records call it, by
    default the spec. Raises CheckpointError, EnvironmentLacks or UsageError.
    """
    from datk.models.outside import is_outside, open_outside
    from datk.pipeline.steps import weights
    from datk.train.labelling.net_teacher import NetTeacher
    from datk.train.precision import choose_device, choose_precision

    if is_outside(spec):
        chosen = choose_device(device)
        outside = open_outside(spec, device=chosen.type, precision=choose_precision(precision, chosen))
        outside.source = source or spec
        return outside
    checkpoint = weights.read(Path(spec))
    return NetTeacher(
        checkpoint.net,
        source=source or spec,
        licence=checkpoint.licence,
        input_size=section.input_size,
        short_side=section.short_side,
        device=device,
        precision=precision,
    )


def teacher_digest(spec: str) -> str:
    """sha256 of the file, or of the model's folder. Raises CheckpointError when there is none."""
    from datk.models.outside import check_outside, is_outside

    if is_outside(spec):
        return check_outside(spec)[1]
    if not Path(spec).is_file():
        raise CheckpointError(f"{spec}: no such file", hint="name a .pth or .safetensors checkpoint, or hf:FOLDER")
    return sha256_file(Path(spec))


def check_teacher(spec: str) -> None:
    """Refuse a teacher that cannot be opened before anything is written. Raises CheckpointError, EnvironmentLacks."""
    from datk.models.outside import check_outside, is_outside
    from datk.pipeline.steps import weights

    if is_outside(spec):
        check_outside(spec)
    else:
        weights.read(Path(spec))


def open_both(
    spec: str, images: str, section: PseudoLabelSection, device: str, precision: str
) -> tuple[Teacher, ImageSource]:
    """Teacher and images, as a worker process opens them."""
    from datk.data.sources import open_images

    return open_teacher(spec, section, device=device, precision=precision), open_images(images)
