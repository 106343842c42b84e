"""The one place where --teacher becomes a teacher, whoever made it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datk.config.train_sections import PseudoLabelSection

if TYPE_CHECKING:
    from datk.data.sources import ImageSource
    from datk.depth.teacher import Teacher


def open_teacher(spec: str, section: PseudoLabelSection, *, device: str = "auto", precision: str = "auto") -> Teacher:
    """spec: our own checkpoint or any official one (.pth, .safetensors).

    section: at what size ours sees a photograph. Raises CheckpointError, EnvironmentLacks or UsageError.
    """
    from pathlib import Path

    from datk.pipeline.steps import weights
    from datk.train.labelling.net_teacher import NetTeacher

    checkpoint = weights.read(Path(spec))
    return NetTeacher(
        checkpoint.net,
        source=spec,
        licence=checkpoint.licence,
        input_size=section.input_size,
        short_side=section.short_side,
        device=device,
        precision=precision,
    )


def open_both(
    spec: str, images: str, section: PseudoLabelSection, device: str, precision: str
) -> tuple[Teacher, ImageSource]:
    """Teacher and images, as a worker process opens them."""
    from datk.data.sources import open_images

    return open_teacher(spec, section, device=device, precision=precision), open_images(images)
