"""What to ship on one device: the rule of the run, on that device's times and maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datk.farm.inventory import Device
from datk.pipeline.farm.device_verdicts import device_verdicts

ORIN = Device.model_validate({"name": "orin", "kind": "local", "controlled": True})
SHA = {"fp16": "a" * 64, "int8": "b" * 64, "fp32": "c" * 64}


def row(
    precision: str, times_ms: list[float], beside: str | None = None, beside_ms: list[float] | None = None, **more: Any
) -> dict[str, Any]:
    """As the stage keeps it. times_ms, beside_ms: medians of the rounds."""
    timed = {"candidate": {"round_medians_ms": times_ms}}
    if beside is not None:
        timed["baseline"] = {"round_medians_ms": beside_ms}
    images = [{"name": f"{k}.jpg", "abs_rel": 0.01 + 0.001 * k, "boundary_f1": 0.9} for k in range(8)]
    return {
        "artifact": f"jetson-{precision}",
        "target": "jetson",
        "precision": precision,
        "status": "passed",
        "reasons": [],
        "figures": "measured",
        "sha256": SHA[precision],
        "beside": SHA[beside] if beside else None,
        "input_size": [98, 126],
        "metrics": {"size_bytes": {"value": 8e6 if precision != "int8" else 4e6}},
        "details": {
            "runtime": "tensorrt 10.7",
            "as_timed_there": timed,
            "throttling": None,
            "bench": {"outcomes": {f"{k}.jpg": "1110" for k in range(8)}},
            "parity_vs_float": {"images": images},
        },
    } | more


BASE = [float(t) for t in 20 * np.exp(np.random.default_rng(0).normal(0, 0.02, 12))]


def faster(by: float) -> list[float]:
    return [t / by for t in BASE]


def test_a_device_on_which_int8_wins_ships_it_whatever_the_host_said() -> None:
    (verdict,) = device_verdicts(ORIN, [row("fp16", BASE), row("int8", faster(1.4), "fp16", BASE)])
    assert (verdict.ship, verdict.base) == ("int8", "fp16")
    speed = verdict.compared["int8"].speed
    assert speed is not None and speed.value == pytest.approx(1.4, rel=0.01) and speed.rounds == 12
    assert verdict.headline == (
        "jetson 98x126 on orin: ship int8: 1.40x for 0.0 pt, 2.00x smaller than fp16 (speed there by tensorrt 10.7)"
    )


def test_a_device_on_which_int8_loses_ships_float() -> None:
    (verdict,) = device_verdicts(ORIN, [row("fp16", BASE), row("int8", faster(0.8), "fp16", BASE)])
    assert verdict.ship == "fp16" and "int8 rejected: 0.80x for 0.0 pt, slower" in verdict.sentence


def test_worse_maps_of_that_device_are_not_shipped_however_fast() -> None:
    bad = row("int8", faster(3), "fp16", BASE)
    bad["details"]["bench"] = {"outcomes": {f"{k}.jpg": "1100" for k in range(8)}}
    (verdict,) = device_verdicts(ORIN, [row("fp16", BASE), bad])
    assert verdict.ship == "fp16" and "int8 rejected: 3.00x for -25.0 pt" in verdict.sentence


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"figures": "emulated"}, "emulated processor: no device's figure"),
        ({"beside": SHA["fp32"]}, "it did not take turns with fp16 there"),
        ({"throttling": "clocks fell from 900 to 600 MHz"}, "the device throttled: clocks fell from 900 to 600 MHz"),
        ({"rounds": 4}, "4 rounds, at least 5 are needed"),
    ],
)
def test_times_that_say_nothing_leave_the_precision_undecided(change: dict[str, Any], reason: str) -> None:
    rounds = change.get("rounds", 12)
    other = row("int8", faster(2)[:rounds], "fp16", BASE[:rounds])
    other |= {k: v for k, v in change.items() if k in ("figures", "beside")}
    if "throttling" in change:
        other["details"]["throttling"] = change["throttling"]
    seen = [row("fp16", BASE), other]
    if "beside" in change:  # another weaker precision did take turns with fp16
        seen.append(row("int8", faster(2), "fp16", BASE) | {"precision": "int8-weights", "sha256": "d" * 64})
    (verdict,) = device_verdicts(ORIN, seen)
    assert f"int8 undecided: 2.00x smaller for 0.0 pt, speed not known: {reason}" in verdict.sentence
    assert verdict.compared["int8"].speed is None


def test_without_a_float_artifact_beside_it_there_is_no_verdict() -> None:
    assert device_verdicts(ORIN, [row("int8", BASE)]) == []
    assert device_verdicts(ORIN, [row("fp16", BASE), row("int8", BASE)]) == []
    assert device_verdicts(ORIN, [row("fp16", BASE)]) == []
    unmeasured = row("int8", faster(2), "fp16", BASE, status="not measured")
    assert device_verdicts(ORIN, [row("fp16", BASE), unmeasured]) == []


def test_targets_and_sizes_are_judged_apart_and_uncontrolled_clocks_are_told() -> None:
    desk = ORIN.model_copy(update={"controlled": False})
    pair = [row("fp16", BASE), row("int8", faster(2), "fp16", BASE)]
    other = [r | {"input_size": [252, 336]} for r in pair]
    verdicts = device_verdicts(desk, [*pair, *other])
    assert [v.input_size for v in verdicts] == [(98, 126), (252, 336)]
    assert all(v.headline.endswith("(speed there by tensorrt 10.7, not a controlled device)") for v in verdicts)


def test_the_baseline_is_the_float_artifact_the_runs_verdict_names(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from datk.artifact.files import write_json
    from datk.evaluate.target_verdict import PrecisionVerdict, TargetVerdict
    from datk.pipeline.farm.request import _float_sibling

    contract = SimpleNamespace(input_size=(98, 126))
    artifact: Any = SimpleNamespace(
        target="jetson", folder=tmp_path / "50-export-jetson-int8", manifest=SimpleNamespace(contract=contract)
    )
    assert _float_sibling(artifact) == tmp_path / "50-export-jetson-fp32"
    fp16 = PrecisionVerdict(
        precision="fp16",
        artifact="50-export-jetson-fp16",
        sha256=SHA["fp16"],
        judged_by="x",
        passed=True,
        status="ship",
        words="",
        metrics={},
    )
    verdict = TargetVerdict(
        target="jetson", input_size=(98, 126), ship="fp16", base="fp16", sentence="", speed_by="", rows=(fp16,)
    )
    folder = tmp_path / "65-verdict-jetson"
    folder.mkdir()
    write_json(folder / "verdict.json", verdict.model_dump(mode="json"))
    write_json(folder / "manifest.json", {})
    assert _float_sibling(artifact) == tmp_path / "50-export-jetson-fp16"
    artifact.manifest.contract.input_size = (252, 336)
    assert _float_sibling(artifact) == tmp_path / "50-export-jetson-fp32"
