"""Data sets with depth: one file each. A module of this folder that exposes ADAPTER is one.

So is any entry point of the group `datk.adapters`, or a .py file named in the environment variable
DATK_ADAPTERS_PATH (several are separated by `:`; a folder means every .py file in it).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from datk.errors import UsageError

if TYPE_CHECKING:
    from datk.data.adapters.base import Adapter

PATH_VARIABLE = "DATK_ADAPTERS_PATH"


@cache
def available() -> dict[str, Adapter]:
    """Every data set by name, sorted. Raises UsageError when two claim one name or an ADAPTER is not an Adapter."""
    from datk.data.adapters.base import Adapter

    found: dict[str, Adapter] = {}

    def add(adapter: object, origin: str) -> None:
        if not isinstance(adapter, Adapter):
            raise UsageError(
                f"{origin}: ADAPTER is a {type(adapter).__name__}, expected datk.data.adapters.base.Adapter",
                hint="see docs/datasets.md",
            )
        if adapter.name in found:
            raise UsageError(f"two data sets are named '{adapter.name}': {origin} and {found[adapter.name].title}")
        found[adapter.name] = adapter

    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        module = importlib.import_module(f"{__name__}.{info.name}")
        if hasattr(module, "ADAPTER"):
            add(module.ADAPTER, info.name)
    for point in entry_points(group="datk.adapters"):
        add(point.load(), point.value)
    for name in filter(None, os.environ.get(PATH_VARIABLE, "").split(os.pathsep)):
        for file in _files(Path(name)):
            add(getattr(_from_file(file), "ADAPTER", None), str(file))
    return dict(sorted(found.items()))


def get(name: str) -> Adapter:
    """The data set of that name. Raises UsageError with the known names and the nearest one."""
    known = available()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UsageError(f"no data set named '{name}'", hint=f"{hint}known: {', '.join(known)}")


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.py")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UsageError(f"{PATH_VARIABLE}: {path} is no .py file and holds none", hint="see docs/datasets.md")
    return files


def _from_file(file: Path) -> object:
    """Import a file that lies outside the tree, under a module name of its own."""
    name = f"datk_adapter_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
