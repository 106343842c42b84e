"""Targets: one folder each, all alike. available() finds them; get(name) returns one.

A folder below this one that exposes TARGET is a target; so is any entry point of the group
`datk.targets`, or a folder named in the environment variable DATK_TARGETS_PATH.
"""

from __future__ import annotations

if not __name__.startswith("datk."):
    raise ImportError("import datk.targets, not targets: the checkout's root must not be on sys.path")

import difflib
import importlib
import importlib.util
import os
import pkgutil
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from datk.errors import UsageError
from datk.targets.base import Target

PATH_VARIABLE = "DATK_TARGETS_PATH"


@cache
def available() -> dict[str, Target]:
    """Every target by name, sorted. Imports no SDK: a target's __init__ is light.

    Raises UsageError when two targets claim one name or a folder's TARGET is not a Target.
    """
    found: dict[str, Target] = {}
    for info in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if info.ispkg:
            _add(found, importlib.import_module(f"{__name__}.{info.name}").TARGET)
    for point in entry_points(group="datk.targets"):
        _add(found, point.load())
    for folder in filter(None, os.environ.get(PATH_VARIABLE, "").split(os.pathsep)):
        _add(found, _from_folder(Path(folder)))
    return dict(sorted(found.items()))


def get(name: str) -> Target:
    """The target of that name. Raises UsageError with the known names and the nearest one."""
    known = available()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise UsageError(f"no target named '{name}'", hint=f"{hint}known: {', '.join(known)}")


def _add(found: dict[str, Target], target: object) -> None:
    if not isinstance(target, Target):
        raise UsageError(f"TARGET is a {type(target).__name__}, expected datk.targets.base.Target")
    if target.name in found:
        raise UsageError(f"two targets are named '{target.name}': {found[target.name].package} and {target.package}")
    found[target.name] = target


def _from_folder(folder: Path) -> object:
    """Import a target folder that lies outside the tree, under a package name of its own."""
    init = folder / "__init__.py"
    if not init.is_file():
        raise UsageError(f"{PATH_VARIABLE}: {folder} holds no __init__.py", hint="see docs/adding_a_target.md")
    name = f"datk_target_{folder.name}"
    spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return getattr(module, "TARGET", None)
