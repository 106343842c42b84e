"""Teachers from elsewhere: one file a family. A module of this folder that exposes FAMILY is one.

`hf:PATH_OR_ID` is a Hugging Face depth model, told apart by its config's model_type; `marigold:PATH_OR_ID` a Marigold
pipeline of diffusers. Both need the extra `experts`.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from datk.errors import CheckpointError

if TYPE_CHECKING:
    from datk.models.outside.base import Family, OutsideTeacher


@cache
def families() -> tuple[Family, ...]:
    """Every family, by name."""
    here = str(Path(__file__).parent)
    modules = (importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules([here]))
    return tuple(sorted((m.FAMILY for m in modules if hasattr(m, "FAMILY")), key=lambda f: f.name))


def is_outside(spec: str) -> bool:
    """Whether a teacher's spec names a model from elsewhere: it begins with a family's prefix and a colon."""
    prefix, _, rest = spec.partition(":")
    return bool(rest) and "/" not in prefix and prefix in {f.prefix for f in families()}


def open_outside(spec: str, *, device: str, precision: str) -> OutsideTeacher:
    """spec: as is_outside takes it. device: cpu or cuda. precision: fp32 or bf16.

    Only safetensors are read and no code of the model's folder is run. Raises CheckpointError for a folder that is no
    such model, EnvironmentLacks for a missing package or a model that is neither here nor can be fetched.
    """
    from datk.models.outside.folder import model_folder

    prefix, _, rest = spec.partition(":")
    folder = model_folder(rest, spec=spec)
    family = _family_of(prefix, folder)
    return family.open(folder, spec=spec, device=device, precision=precision)


def check_outside(spec: str) -> tuple[Path, str]:
    """(folder, digest of the model), without loading it. Raises like open_outside."""
    from datk.models.outside.folder import folder_digest, model_folder

    prefix, _, rest = spec.partition(":")
    folder = model_folder(rest, spec=spec)
    _family_of(prefix, folder)
    return folder, folder_digest(folder)


def _family_of(prefix: str, folder: Path) -> Family:
    candidates = [f for f in families() if f.prefix == prefix]
    file = folder / candidates[0].config_file
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        found = str(config[candidates[0].config_key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: does not say what model this is ({error})", hint="name its folder") from error
    for family in candidates:
        if found in family.model_types:
            return family
    known = sorted(t for f in candidates for t in f.model_types)
    raise CheckpointError(f"{file}: a '{found}', no depth teacher datk knows", hint=f"known: {', '.join(known)}")
