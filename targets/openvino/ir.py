"""The IR itself: read from ONNX by OpenVINO's own front end, named the same every time, saved with its contract."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.depth.io_spec import Contract
from datk.errors import DataError, TargetError

if TYPE_CHECKING:
    import onnx

ARTIFACT = "model.openvino"
XML = "model.xml"
SECTION = "datk"
"""Of rt_info, OpenVINO's place for a model's metadata: datk/contract holds the contract's JSON."""
_NUMBERED = re.compile(r"[A-Za-z0-9]+_\d+")
"""A name that OpenVINO made up from a counter of its process, like Constant_5279."""


def core() -> Any:
    """OpenVINO's Core. Importing it takes a moment; nothing is compiled."""
    import openvino

    return openvino.Core()


def first_line(error: Exception) -> str:
    """OpenVINO's own words: the last line of its message, which holds the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def from_onnx(graph: onnx.ModelProto) -> Any:
    """An openvino.Model of an ONNX graph with OpenVINO's common optimisations. Raises TargetError in its words."""
    from openvino._offline_transformations import apply_moc_transformations

    try:
        model = core().read_model(graph.SerializeToString(deterministic=True), b"")
        apply_moc_transformations(model, cf=True)
    except RuntimeError as error:
        raise TargetError(f"OpenVINO refused the graph: {first_line(error)}") from error
    name_repeatably(model)  # NNCF makes further names of these
    return model


def name_repeatably(model: Any) -> None:
    """Replace names that count on since the process began by names that count within this model."""
    seen: Counter[str] = Counter()
    for node in model.get_ordered_ops():
        if not _NUMBERED.fullmatch(node.get_friendly_name()):
            continue
        kind = node.get_type_name()
        node.set_friendly_name(f"{kind}.{seen[kind]}")
        seen[kind] += 1


def save(model: Any, artifact: Path, contract: Contract, metadata: dict[str, str], *, half: bool) -> None:
    """Write the folder artifact with model.xml and model.bin; equal models give equal bytes.

    half: store float weights as float16. It appears whole or not at all. Raises TargetError.
    """
    import openvino

    name_repeatably(model)
    for key, value in sorted({**metadata, "contract": contract.model_dump_json()}.items()):
        model.set_rt_info(value, [SECTION, key])
    part = artifact.with_name(f".{artifact.name}.part")
    part.mkdir()
    try:
        openvino.save_model(model, part / XML, compress_to_fp16=half)
        part.rename(artifact)
    except RuntimeError as error:
        raise TargetError(f"OpenVINO could not write {artifact}: {first_line(error)}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load(artifact: Path) -> Any:
    """The openvino.Model of a saved folder. Raises DataError when it is missing, TargetError when it is no IR."""
    path = artifact / XML
    if not path.is_file():
        raise DataError(f"{artifact}: holds no {XML}", hint="export it again")
    try:
        return core().read_model(path)
    except RuntimeError as error:
        raise TargetError(
            f"{artifact}: OpenVINO cannot read it: {first_line(error)}", hint="export it again"
        ) from error


def contract_inside(model: Any) -> Contract | None:
    """The contract that a saved IR carries, or None when it carries none."""
    place = [SECTION, "contract"]
    if not model.has_rt_info(place):
        return None
    return Contract.model_validate_json(str(model.get_rt_info(place).value))
