"""The bill of materials: valid by the project's own schema, complete, and the same for the same export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datk.artifact.files import sha256_file
from datk.artifact.licences import Link
from datk.artifact.manifest import read_manifest
from datk.depth.io_spec import Contract
from datk.pipeline.ship import sbom

CHAIN = [
    Link("weights", "student tiny", "Apache-2.0", "a" * 64),
    Link("teacher", "large", "CC-BY-NC-4.0", "b" * 64),
    Link("photographs", "photographs", "CC0; MIT", "c" * 64),
]


@pytest.fixture()
def contract(onnx_export: Path) -> Contract:
    return Contract.model_validate_json((onnx_export / "contract.json").read_text())


def test_a_bill_is_valid_complete_and_repeatable(contract: Contract) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    first, again = (sbom.bill(contract, "d" * 64, CHAIN, tools=("torch", "onnx")) for _ in range(2))
    assert json.dumps(first) == json.dumps(again)
    other = sbom.bill(contract, "e" * 64, CHAIN, tools=("torch", "onnx"))
    assert other["serialNumber"] != first["serialNumber"]
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(first)) is None
    names = {c["name"]: c for c in first["components"]}
    assert {"student tiny", "large", "photographs", "torch", "onnx", "datk"} <= set(names)
    assert names["large"]["licenses"][0]["license"]["name"] == "CC-BY-NC-4.0"
    assert names["photographs"]["type"] == "data" and names["large"]["hashes"][0]["content"] == "b" * 64


def test_the_export_has_one_or_says_why_not(onnx_export: Path, contract: Contract) -> None:
    check = read_manifest(onnx_export).checks["sbom"]
    if check["status"] == "not_measured":
        assert "pip install" in check["detail"] and not (onnx_export / sbom.FILE).exists()
        return
    bill = json.loads((onnx_export / sbom.FILE).read_text())
    digest = bill["metadata"]["component"]["hashes"][0]["content"]
    assert digest == sha256_file(onnx_export / str(contract.artifact))


def test_without_the_library_the_reason_is_recorded(
    onnx_export: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sbom, "find_spec", lambda name: None)
    record = sbom.write_sbom(onnx_export, contract, CHAIN, tools=())
    assert record["status"] == "not_measured" and "datk[ship]" in record["detail"]
