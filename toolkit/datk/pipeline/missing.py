"""What a recipe needs that is not on this machine: everything at once, with where to get it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from datk.config.schema import Recipe
from datk.data.labelled_sets import what_is_missing
from datk.errors import EnvironmentLacks

DINOV2_HOME = "https://github.com/facebookresearch/dinov2"
RELATIVE_HOME = "https://github.com/DepthAnything/Depth-Anything-V2"
ENCODER_HOMES = {
    "dinov2": "huggingface.co/facebook/dinov2-*",
    "dinov2_with_registers": "huggingface.co/facebook/dinov2-with-registers-*",
    "dinov3_vit": "huggingface.co/facebook/dinov3-vit*",
    "vit": "SynCLR's at github.com/google-research/syn-rep-learn",
    "beit": "huggingface.co/microsoft/beit-*",
    "sam": "huggingface.co/facebook/sam-vit-*",
}
"""Family -> where its published weights are. A folder downloaded whole is one that save_pretrained wrote."""


def require_all(recipe: Recipe) -> None:
    """Raise EnvironmentLacks (exit 4) naming every data set and pre-trained file that is not there."""
    lines = list(dict.fromkeys(_missing(recipe)))
    if lines:
        count = f"{len(lines)} thing{'s' if len(lines) > 1 else ''}"
        raise EnvironmentLacks(
            f"{recipe.name} needs {count} that are not here\n" + "\n".join(f"  {line}" for line in lines),
            hint="put or link them there, or name your own folders in a recipe that begins with `extends:`; "
            "--plan works without them",
        )


def _missing(recipe: Recipe) -> Iterator[str]:
    for section in recipe.data:
        if (line := what_is_missing(section)) is not None:
            yield line
    if recipe.student is not None and recipe.student.uses_labels:
        specs = recipe.photos.image_specs
        for spec in specs:
            if (line := _missing_images(spec)) is not None:
                yield line
        for folder, spec in zip_longest(recipe.photos.label_folders, specs):
            if folder is not None and not (Path(folder) / "index.json").is_file():
                line = f"datk pseudo-label --teacher CKPT --images {spec} --out {folder}"
                yield f"{folder}: finished pseudo-labels; {line}"
        for folder in recipe.photos.more_labels:
            if not (Path(folder) / "index.json").is_file():
                yield f"{folder}: finished pseudo-labels; datk pseudo-label --teacher CKPT --images SRC --out {folder}"
    yield from _missing_weights(recipe)


def _missing_images(spec: str) -> str | None:
    """Of the sources with a name of their own (the paper's eight sets, data sets): a folder tells for itself."""
    from datk.data.adapters import available
    from datk.data.sources.presets import PRESETS

    kind, _, rest = spec.partition(":")
    root = rest.partition("#")[0]
    if not root or Path(root).is_dir():
        return None
    if kind in available():
        return f"{root}: {available()[kind].title}, from {available()[kind].home}"
    if kind not in PRESETS:
        return None
    preset = PRESETS[kind]
    return f"{root}: {preset.title}, {preset.paper_images:,} images in the paper, from {preset.home}"


def _missing_weights(recipe: Recipe) -> Iterator[str]:
    """Files a training starts from or follows; those of `checkpoints` are looked at when they are loaded."""
    starts = [section.checkpoint for section in (recipe.teacher, recipe.student) if section is not None]
    if recipe.student is not None:
        starts.append(recipe.student.dinov2_checkpoint)
    for trained in (recipe.teacher, recipe.student):
        encoder = None if trained is None else trained.encoder
        if encoder is not None and encoder.weights is not None and not encoder.weights.exists():
            yield f"{encoder.weights}: weights of the encoder {encoder.family}: {ENCODER_HOMES[encoder.family]}"
    for path in starts:
        if path is not None and not path.is_file():
            yield f"{path}: weights to start from; a DINOv2 encoder comes from {DINOV2_HOME}"
    if recipe.metric is not None and (path := recipe.metric.checkpoint) is not None and not path.is_file():
        yield f"{path}: a relative student to start from, your own (30-student/student.safetensors) or {RELATIVE_HOME}"
