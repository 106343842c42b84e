"""The models that vote on a new benchmark's pairs: anything `datk validate` opens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from datk.artifact.files import sha256_file
from datk.bench_builder.propose import Expert
from datk.depth.io_spec import Size
from datk.errors import UsageError
from datk.models.outside import check_outside, is_outside
from datk.pipeline.models import find_artifact, open_model


def experts_from(models: Sequence[Path], input_size: Size | None = None) -> list[Expert]:
    """One expert a model; the weights' digest and the input size are its key. Nothing is opened yet.

    Raises UsageError for a path that is no model, or two models that would go by one name.
    """
    experts: list[Expert] = []
    for path in models:
        short, digest, sized = _identity(path)
        size = input_size if sized else None
        name = short if short not in {e.name for e in experts} else str(path)
        if name in {e.name for e in experts}:
            raise UsageError(f"{path} is named twice", hint="an expert has one vote")
        key = f"{digest}-{'x'.join(map(str, size)) if size else 'own size'}"
        experts.append(Expert(name=name, key=key, open=partial(open_model, path, size)))
    return experts


def _identity(path: Path) -> tuple[str, str, bool]:
    """(short name, digest of the weights, whether it takes an input size); artifacts have one size of their own."""
    if is_outside(str(path)):
        return str(path), check_outside(str(path))[1], True
    if not path.exists():
        raise UsageError(f"{path}: no such model", hint="name an artifact, an export folder or a checkpoint")
    artifact, target = find_artifact(path)
    return artifact.name, sha256_file(artifact), target is None
