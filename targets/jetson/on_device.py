"""The engine is built on the device: which files of an export go there, and which come back."""

from __future__ import annotations

import json
import zipfile
from math import prod
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from datk.errors import DataError, EnvironmentLacks
from datk.targets.device_build import DeviceBuild
from datk.targets.jetson import TARGET

SCRIPTS = ("build_and_check.py", "tensorrt_engine.py", "board_readings.py", "camera_frame.py", "find_layer.py")
"""The first is run, and uses the others."""
PLAN = "build_plan.json"
ANSWER = "engine_check.json"
MAPS = "engine_depths.npy"
ENGINE_ROOM = 256_000_000
"""Bytes an engine may be larger than twice its model: tactics keep copies of weights, hardly more."""
CACHE_LIMIT = 64_000_000
ANSWER_LIMIT = 1_000_000
NPY_HEADER = 128


def device_build(export: Path, version: str) -> DeviceBuild:
    """For an export folder of this target. version: TensorRT's on the device, which decides the file that is sent;
    where it is no version ("unknown"), every line's is.

    Raises DataError when the folder lacks the plan, or has one of an older datk; EnvironmentLacks when no line of the
    plan is for that TensorRT.
    """
    plan = _plan(export)
    models = [str(row["model"]) for row in _rows(plan, version)]
    engine = str(plan["engine"])
    golden = plan["golden"] if plan["golden"] and (export / plan["golden"]).is_file() else None
    layers = plan["layers"] if golden and plan["layers"] and (export / plan["layers"]).is_file() else None
    results = {
        engine: 2 * max((export / name).stat().st_size for name in models) + ENGINE_ROOM,
        f"{engine}.timing.cache": CACHE_LIMIT,
        ANSWER: ANSWER_LIMIT,
    }
    if golden is not None:
        results[MAPS] = 4 * prod(_golden_shape(export / golden)) + NPY_HEADER
    sent = (*dict.fromkeys(models), PLAN, *SCRIPTS, *(name for name in (golden, layers) if name))
    said = (*(("--depths", MAPS) if golden else ()), *(("--layers",) if layers else ()))
    return DeviceBuild(
        runtime=str(TARGET.device_runtime),
        files=sent,
        script=SCRIPTS[0],
        arguments=("--json", ANSWER, *said),
        product=engine,
        results=results,
        answer=ANSWER,
        maps=MAPS if golden else None,
        golden=golden,
        least_correlation=float(plan["least_correlation"]),
        written_here={f"{engine}.made_from": lambda found: f"{_rows(plan, found)[-1]['model_sha256']} {found}"},
    )


def _plan(export: Path) -> dict[str, Any]:
    try:
        plan: dict[str, Any] = json.loads((export / PLAN).read_text(encoding="utf-8"))
        _ = (plan["engine"], plan["golden"], plan["least_correlation"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{export / PLAN}: no build plan ({error})", hint="`datk export --target jetson` writes one"
        ) from error
    if plan.get("schema_version") != 2:
        raise DataError(
            f"{export / PLAN}: is of an older datk, without TensorRT's lines of versions",
            hint="export once more: `datk export --target jetson --force`",
        )
    return plan


def _rows(plan: dict[str, Any], version: str) -> list[dict[str, Any]]:
    """The plan's line for a TensorRT version, as the device's script chooses it; all that have a file where it is no
    version.
    """
    rows: list[dict[str, Any]] = plan["lines"]
    try:
        found = Version(version)
    except InvalidVersion:
        return [row for row in rows if row["model"]]
    for row in rows:
        if Version(row["least"]) <= found and (row["below"] is None or found < Version(row["below"])):
            if row["model"] is None:
                raise EnvironmentLacks(
                    f"for TensorRT {version} this export has no file: {row['why_none']}",
                    hint="datk export --target jetson --option tensorrt8=true",
                )
            return [row]
    newer = next(row for row in rows if Version(row["least"]) > found)
    raise EnvironmentLacks(
        f"TensorRT {version} is older than {newer['least']} ({newer['comes_with']}), and no older line of the plan is "
        "for it",
        hint="a newer JetPack",
    )


def _golden_shape(path: Path) -> tuple[int, ...]:
    """Of `depth`, from its header alone."""
    from numpy.lib import format as npy

    try:
        with zipfile.ZipFile(path) as archive, archive.open("depth.npy") as handle:
            npy.read_magic(handle)
            return tuple(npy.read_array_header_1_0(handle)[0])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: no golden maps ({error})", hint="export once more") from error
