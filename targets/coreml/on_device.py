"""What `datk export --target coreml --device MAC` does there: compare and time the compute units of a Mac.

Nothing is built that would run in the package's place: what comes back is the script's answer and the maps.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

from datk.artifact.verify import CONTRACT, GOLDEN
from datk.depth.io_spec import Contract
from datk.errors import DataError
from datk.targets.coreml import TARGET
from datk.targets.device_build import DeviceBuild

SCRIPT = "compute_units.py"
ANSWER = "compute_units.json"
MAPS = "compute_units.npy"
ANSWER_LIMIT = 1_000_000
NPY_HEADER = 128


def device_build(export: Path, version: str) -> DeviceBuild:
    """For an export folder of this target; version: of coremltools, any will do. Raises DataError for other folders."""
    try:
        contract = Contract.model_validate_json((export / CONTRACT).read_text(encoding="utf-8"))
        golden = json.loads((export / GOLDEN).read_text(encoding="utf-8"))
        count, least = len(golden["images"]), float(golden["tolerance"]["float"]["min_correlation"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{export}: no contract or golden pack ({error})", hint="export once more") from error
    if not (export / SCRIPT).is_file():
        raise DataError(f"{export}: is of an older datk, without {SCRIPT}", hint="export once more with --force")
    return DeviceBuild(
        runtime=str(TARGET.device_runtime),
        files=(str(contract.artifact), CONTRACT, Path(GOLDEN).parent.as_posix(), SCRIPT),
        script=SCRIPT,
        arguments=("--json", ANSWER, "--depths", MAPS),
        product=ANSWER,
        runs_instead=False,
        results={ANSWER: ANSWER_LIMIT, MAPS: 4 * count * prod(contract.input_size) + NPY_HEADER},
        answer=ANSWER,
        maps=MAPS,
        golden=GOLDEN,
        least_correlation=least,
    )
