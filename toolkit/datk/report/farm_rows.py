"""What devices answered: rows of the verdict table, read from the 70-farm- stages of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datk.artifact.manifest import FILE_NAME, Manifest, Metric

PREFIX = "70-farm-"
ENGINE_PREFIX = "65-engine-"
_METRICS: TypeAdapter[dict[str, Metric]] = TypeAdapter(dict[str, Metric])


def device_rows(folders: Sequence[Path], notes: list[str]) -> list[dict[str, Any]]:
    """Fields of a report's Artifact for everything that was tried on a device; what is unreadable becomes a note.

    folders: 70-farm-DEVICE stages. What a device cannot run by its nature is left out: its stage's facts name it.
    """
    rows = []
    for folder in folders:
        for path in sorted(p for p in folder.glob("*.json") if p.name != FILE_NAME):
            try:
                row = _row(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
                notes.append(f"{folder.name}/{path.name}: not shown ({type(error).__name__})")
                continue
            if row is not None:
                rows.append(row)
    return rows


def engine_row(manifest: Manifest) -> dict[str, Any]:
    """Fields of a report's Artifact for what was built on a device: a 65-engine- stage."""
    facts, verdict = manifest.facts, manifest.verdict
    return {
        "id": str(facts["export"]).removeprefix("50-export-"),
        "target": str(facts["target"]),
        "precision": str(facts["precision"]),
        "judged_by": str(facts["label"]),
        "reference": "float student, on the golden photographs alone",
        "verdict": verdict.status if verdict else "not validated",
        "reasons": list(verdict.reasons) if verdict else ["no golden inputs: not compared"],
        "metrics": manifest.metrics,
        "facts": {
            "device": f"{facts['device']} ({'engine' if facts.get('runs_instead', True) else 'golden photographs'})",
            "figures": str(facts["figures"]),
        },
    }


def _row(value: dict[str, Any]) -> dict[str, Any] | None:
    if value["status"] == "unsupported":
        return None
    judged = value["status"] in ("passed", "rejected")
    return {
        "id": str(value["artifact"]),
        "target": str(value["target"]),
        "precision": str(value["precision"]),
        "judged_by": str(value["label"]) if value["metrics"] else None,
        "reference": "float student",
        "verdict": value["status"] if judged else "not validated",
        "reasons": [str(r) for r in value["reasons"]],
        "metrics": _METRICS.validate_python(value["metrics"]),
        "facts": {"device": str(value["device"]), "figures": str(value["figures"])},
    }
