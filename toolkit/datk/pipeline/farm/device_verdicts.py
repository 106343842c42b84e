"""Verdicts of one device, from the rows its stage keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from datk.evaluate.device_verdict import DeviceVerdict, OnDevice, device_verdict
from datk.farm.inventory import Device
from datk.pipeline.farm.figures import NO_FIGURE


def device_verdicts(device: Device, rows: Iterable[Mapping[str, Any]]) -> list[DeviceVerdict]:
    """One for each target and size of which a weaker precision took turns with a float one there.

    rows: datk.pipeline.farm.scoring.Row.as_json(); those the device did not run are passed over.
    """
    judged = [r for r in rows if r["status"] in ("passed", "rejected") and "bench" in r["details"]]
    verdicts = []
    for (target, size), group in groupby(sorted(judged, key=_place), key=_place):
        seen = list(group)
        runtime = str(seen[0]["details"]["runtime"])
        tail = "" if device.controlled else ", not a controlled device"
        verdict = device_verdict(
            device.name, target, size, [_seen(r) for r in seen], speed_by=f"speed there by {runtime}{tail}"
        )
        if verdict is not None:
            verdicts.append(verdict)
    return verdicts


def _place(row: Mapping[str, Any]) -> tuple[str, tuple[int, int]]:
    height, width = row["input_size"]
    return str(row["target"]), (int(height), int(width))


def _seen(row: Mapping[str, Any]) -> OnDevice:
    details = row["details"]
    timed = details["as_timed_there"]
    signs = details.get("throttling")
    return OnDevice(
        precision=row["precision"],
        sha256=row["sha256"],
        passed=row["status"] == "passed",
        why_not=next(iter(row["reasons"]), ""),
        size_bytes=_value(row["metrics"]["size_bytes"]),
        beside=row.get("beside"),
        times_ms=tuple(timed["candidate"]["round_medians_ms"]),
        beside_ms=tuple(timed["baseline"]["round_medians_ms"]) if "baseline" in timed else (),
        no_speed=NO_FIGURE.get(row["figures"], "") or (f"the device throttled: {signs}" if signs else ""),
        details={key: details[key] for key in ("bench", "parity_vs_teacher", "parity_vs_float") if key in details},
    )


def _value(metric: Any) -> float:
    return float(metric["value"] if isinstance(metric, Mapping) else metric.value)
