"""sbom.cdx.json: the export's bill of materials in CycloneDX 1.6, by the project's own library.

Written where `cyclonedx-python-lib` is installed. Holds no date and no random number: equal exports have equal files.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.artifact.files import sha256_file, write_json
from datk.artifact.licences import Link
from datk.artifact.provenance import datk_version, tool_versions
from datk.depth.io_spec import Contract
from datk.pipeline.ship.notice import tool_licence

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

FILE = "sbom.cdx.json"
NAMESPACE = uuid.UUID("6f0a2d1e-5f5c-5a39-9a53-0c9d3f1b7d11")
"""Of the serial numbers: uuid5 of the artifact's digest."""


def write_sbom(out: Path, contract: Contract, chain: Sequence[Link], *, tools: Sequence[str]) -> dict[str, Any]:
    """Write out/sbom.cdx.json for out's artifact; returns a check record: passed, or not_measured with the reason."""
    if find_spec("cyclonedx") is None:
        return {"status": "not_measured", "detail": f'no {FILE}: needs cyclonedx-python-lib; pip install "datk[ship]"'}
    value = bill(contract, sha256_file(out / str(contract.artifact)), chain, tools=tools)
    write_json(out / FILE, value)
    return {"status": "passed", "detail": f"{FILE}: {len(value['components'])} components", "file": FILE}


def bill(contract: Contract, digest: str, chain: Sequence[Link], *, tools: Sequence[str]) -> dict[str, Any]:
    """The bill as JSON values: the artifact (sha256 `digest`), what it was made from, what compiled it."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    artifact = _component(
        str(contract.artifact), "", ComponentType.MACHINE_LEARNING_MODEL, f"artifact:{digest}", digest, licence=""
    )
    bom = Bom(serial_number=uuid.uuid5(NAMESPACE, digest))
    bom.metadata.component = artifact
    made_from = [_of_link(index, link) for index, link in enumerate(chain)]
    compiled_by = [_of_tool(name, version) for name, version in tool_versions(tuple(tools)).items()]
    compiled_by.append(_of_tool("datk", datk_version()))
    for component in (*made_from, *compiled_by):
        bom.components.add(component)
    bom.register_dependency(artifact, made_from)
    value: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    value["metadata"].pop("timestamp", None)
    return value


def _of_link(index: int, link: Link) -> Component:
    from cyclonedx.model.component import ComponentType

    is_data = any(word in link.role for word in ("data", "photographs", "labels"))
    kind = ComponentType.DATA if is_data else ComponentType.MACHINE_LEARNING_MODEL
    return _component(link.name, "", kind, f"{link.role}:{index}", link.sha256, licence=link.licence, about=link.role)


def _of_tool(name: str, version: str) -> Component:
    from cyclonedx.model.component import ComponentType

    licence = "Apache-2.0" if name == "datk" else tool_licence(name)
    return _component(name, version, ComponentType.LIBRARY, f"tool:{name}", "", licence=licence, about="compiled by")


def _component(
    name: str, version: str, kind: Any, reference: str, sha256: str, *, licence: str, about: str = ""
) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import DisjunctiveLicense

    return Component(
        name=name,
        version=version or None,
        type=kind,
        bom_ref=reference,
        description=about or None,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if len(sha256) == 64 else None,
        licenses=[DisjunctiveLicense(name=licence)] if licence else None,
    )
