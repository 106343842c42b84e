"""The engine is built on the device: which files of an export go there, and which come back."""

from __future__ import annotations

import json
import zipfile
from math import prod
from pathlib import Path
from typing import Any

from datk.errors import DataError
from datk.targets.device_build import DeviceBuild
from datk.targets.jetson import TARGET

SCRIPT = "build_and_check.py"
PLAN = "build_plan.json"
ANSWER = "engine_check.json"
MAPS = "engine_depths.npy"
ENGINE_ROOM = 256_000_000
"""Bytes an engine may be larger than twice its model: tactics keep copies of weights, hardly more."""
CACHE_LIMIT = 64_000_000
ANSWER_LIMIT = 1_000_000
NPY_HEADER = 128


def device_build(export: Path) -> DeviceBuild:
    """For an export folder of this target.

    Raises DataError when it lacks the plan, or the plan's script is one of an older datk.
    """
    plan = _plan(export)
    model, engine = export / plan["model"], str(plan["engine"])
    if "--depths" not in (export / SCRIPT).read_text(encoding="utf-8"):
        raise DataError(
            f"{export / SCRIPT}: is of an older datk and keeps no depth maps",
            hint="export once more: `datk export --target jetson --force`",
        )
    golden = plan["golden"] if plan["golden"] and (export / plan["golden"]).is_file() else None
    results = {
        engine: 2 * model.stat().st_size + ENGINE_ROOM,
        f"{engine}.timing.cache": CACHE_LIMIT,
        ANSWER: ANSWER_LIMIT,
    }
    if golden is not None:
        results[MAPS] = 4 * prod(_golden_shape(export / golden)) + NPY_HEADER
    return DeviceBuild(
        runtime=str(TARGET.device_runtime),
        files=(str(plan["model"]), PLAN, SCRIPT, *([golden] if golden else [])),
        script=SCRIPT,
        arguments=("--json", ANSWER, *(("--depths", MAPS) if golden else ())),
        product=engine,
        results=results,
        answer=ANSWER,
        maps=MAPS if golden else None,
        golden=golden,
        least_correlation=float(plan["least_correlation"]),
        written_here={f"{engine}.made_from": f"{plan['model_sha256']} {{version}}"},
    )


def _plan(export: Path) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = json.loads((export / PLAN).read_text(encoding="utf-8"))
        _ = (plan["model"], plan["engine"], plan["golden"], plan["model_sha256"], plan["least_correlation"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{export / PLAN}: no build plan ({error})", hint="`datk export --target jetson` writes one"
        ) from error
    return plan


def _golden_shape(path: Path) -> tuple[int, ...]:
    """Of `depth`, from its header alone."""
    from numpy.lib import format as npy

    try:
        with zipfile.ZipFile(path) as archive, archive.open("depth.npy") as handle:
            npy.read_magic(handle)
            return tuple(npy.read_array_header_1_0(handle)[0])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: no golden maps ({error})", hint="export once more") from error
