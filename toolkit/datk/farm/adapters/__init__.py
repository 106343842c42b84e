"""Ways to a device: one file each. A module of this folder that exposes ADAPTER is one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from datk.errors import UsageError

if TYPE_CHECKING:
    from datk.farm.adapters.base import Adapter


@cache
def available() -> dict[str, Adapter]:
    """Every adapter by kind, sorted. Importing one imports no SDK and opens nothing."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules([str(Path(__file__).parent)])
    )
    found = [m.ADAPTER for m in modules if hasattr(m, "ADAPTER")]
    return {a.kind: a for a in sorted(found, key=lambda a: a.kind)}


def get(kind: str) -> Adapter:
    """The adapter of a kind. Raises UsageError with the known ones."""
    known = available()
    if kind not in known:
        raise UsageError(f"no device kind '{kind}'", hint=f"known: {', '.join(known)}")
    return known[kind]
