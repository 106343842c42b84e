"""Thresholds an artifact must meet, and the verdict in words.

Defaults: per photograph against the float net at the same bucket, over at least 50 photographs that were not used for
calibration: median correlation >= 0.9999 (fp32), >= 0.999 (fp16), >= 0.98 with the worst >= 0.95 (int8 and weaker);
and at most 1 percentage point lost on the mini bench. The bench gate judges the observed paired drop; the interval and
the one-sided exact McNemar test are told beside it, they do not decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from datk.artifact.manifest import Verdict
from datk.evaluate.paired import PairedDrop
from datk.evaluate.parity import Parity

Status = Literal["passed", "failed", "not_measured"]


class Gates(BaseModel):
    """Thresholds. None switches a gate off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: str
    min_median_correlation: float | None
    min_worst_correlation: float | None = None
    max_drop_points: float | None = 1.0
    min_photos: int = 50


class GateResult(BaseModel):
    """One gate: the figure, its threshold, and a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    status: Status
    value: float | None = None
    threshold: float | None = None
    n: int | None = None
    detail: str


class GateVerdict(Verdict):
    """The manifest's verdict with the gates behind it."""

    gates: list[GateResult]

    def as_verdict(self) -> Verdict:
        """What the manifest stores."""
        return Verdict(status=self.status, reasons=self.reasons)


def default_gates(precision: str) -> Gates:
    """The gates of a precision: fp32 and fp16 have their own, every other one the int8 gates."""
    if precision == "fp32":
        return Gates(precision=precision, min_median_correlation=0.9999)
    if precision == "fp16":
        return Gates(precision=precision, min_median_correlation=0.999)
    return Gates(precision=precision, min_median_correlation=0.98, min_worst_correlation=0.95)


def judge(
    gates: Gates,
    parity: Parity,
    drop: PairedDrop | None,
    *,
    no_bench_reason: str = "",
    checks: Mapping[str, Mapping[str, Any]] | None = None,
    allow_few: bool = False,
) -> GateVerdict:
    """Judge one artifact.

    parity: against the float net.  drop: on the bench, or None with the reason why none was run.
    checks: a target's own checks (BuildResult.checks).  allow_few: accept fewer photographs than gates.min_photos;
    without it too few photographs reject, since nothing was proved. An output that is constant or not finite on any
    photograph rejects. Photographs on which the float net itself is constant cannot be compared and do not count.
    `reasons` holds every failure, then every gate that was not measured.
    """
    if drop is None and gates.max_drop_points is not None and not no_bench_reason:
        raise ValueError("a bench result, or the reason why there is none, is required")
    results = [
        _enough(gates, parity, allow_few=allow_few),
        _defined(parity),
        *_correlations(gates, parity),
        *_bench(gates, drop, no_bench_reason),
        *_checks(checks or {}),
    ]
    failed = [r.detail for r in results if r.status == "failed"]
    unmeasured = [r for r in results if r.status == "not_measured"]
    blocked = [r.detail for r in unmeasured if r.name == "photographs" and not allow_few]
    remarks = [r.detail for r in unmeasured if r.detail not in blocked]
    return GateVerdict(
        status="rejected" if failed or blocked else "passed", reasons=[*failed, *blocked, *remarks], gates=results
    )


def unverified(gates: Gates, reason: str, *, checks: Mapping[str, Mapping[str, Any]] | None = None) -> GateVerdict:
    """The verdict of an artifact that could not be run: every gate is a record that says why it was not measured.

    A failed check of its target rejects it all the same; without one it is unverified, never passed.
    """
    wanted = {
        "photographs": gates.min_photos,
        "usable output": 0,
        "median correlation": gates.min_median_correlation,
        "worst correlation": gates.min_worst_correlation,
        "bench drop": gates.max_drop_points,
    }
    results = [
        GateResult(name=name, status="not_measured", threshold=threshold, detail=f"{name} not measured: {reason}")
        for name, threshold in wanted.items()
        if threshold is not None
    ]
    checked = _checks(checks or {})
    failed = [c.detail for c in checked if c.status == "failed"]
    remarks = [c.detail for c in checked if c.status == "not_measured"]
    return GateVerdict(
        status="rejected" if failed else "unverified",
        reasons=[*failed, f"not measured: {reason}", *remarks],
        gates=[*results, *checked],
    )


def _comparable(parity: Parity) -> int:
    return sum(1 for i in parity.images if not i.undefined.startswith("the reference"))


def _enough(gates: Gates, parity: Parity, *, allow_few: bool) -> GateResult:
    n = _comparable(parity)
    ok = n >= gates.min_photos
    skipped = parity.n - n
    note = f" ({skipped} more on which the float net itself is constant or not finite)" if skipped else ""
    tail = "; accepted by --allow-few" if allow_few else "; add photographs, or accept it with --allow-few"
    return GateResult(
        name="photographs",
        status="passed" if ok else "not_measured",
        value=n,
        threshold=gates.min_photos,
        n=n,
        detail=f"compared on {n} photographs{note}" + ("" if ok else f", at least {gates.min_photos} are needed{tail}"),
    )


def _defined(parity: Parity) -> GateResult:
    broken = [i for i in parity.undefined if not i.undefined.startswith("the reference")]
    named = ", ".join(f"{i.name} ({i.undefined})" for i in broken[:3]) + (", ..." if len(broken) > 3 else "")
    return GateResult(
        name="usable output",
        status="failed" if broken else "passed",
        value=len(broken),
        threshold=0,
        n=parity.n,
        detail=f"no usable map on {len(broken)} of {parity.n} photographs: {named}"
        if broken
        else f"every one of {parity.n} maps varies and is finite",
    )


def _correlations(gates: Gates, parity: Parity) -> list[GateResult]:
    worst = parity.worst
    wanted = [
        ("median correlation", parity.median_correlation, gates.min_median_correlation, ""),
        (
            "worst correlation",
            worst.correlation if worst else None,
            gates.min_worst_correlation,
            f" on {worst.name}" if worst else "",
        ),
    ]
    return [_at_least(name, v, t, parity, gates.precision, where) for name, v, t, where in wanted if t is not None]


def _at_least(
    name: str, value: float | None, threshold: float, parity: Parity, precision: str, where: str
) -> GateResult:
    if value is None:
        return GateResult(
            name=name, status="failed", threshold=threshold, n=0, detail=f"{name} is undefined on every photograph"
        )
    ok = value >= threshold
    relation = "reaches" if ok else "is below"
    n = parity.n - len(parity.undefined)
    detail = f"{name} {value:.6f}{where} over {n} photographs {relation} {threshold} ({precision} gate)"
    return GateResult(
        name=name, status="passed" if ok else "failed", value=value, threshold=threshold, n=n, detail=detail
    )


def _bench(gates: Gates, drop: PairedDrop | None, reason: str) -> list[GateResult]:
    if gates.max_drop_points is None:
        return []
    if drop is None:
        return [
            GateResult(
                name="bench drop",
                status="not_measured",
                threshold=gates.max_drop_points,
                detail=f"bench drop not measured: {reason}",
            )
        ]
    ok = drop.drop_points <= gates.max_drop_points + 1e-9
    detail = (
        f"{drop.bench}: {100 * drop.candidate_accuracy:.2f} % against {100 * drop.reference_accuracy:.2f} % of "
        f"{drop.n} pairs, drop {drop.drop_points:+.2f} points (95 % {drop.drop_low:+.2f} to {drop.drop_high:+.2f}; "
        f"McNemar one-sided p {drop.p_worse:.3g}), {'within' if ok else 'above'} {gates.max_drop_points:g}"
    )
    return [
        GateResult(
            name="bench drop",
            status="passed" if ok else "failed",
            value=drop.drop_points,
            threshold=gates.max_drop_points,
            n=drop.n,
            detail=detail,
        )
    ]


def _checks(checks: Mapping[str, Mapping[str, Any]]) -> list[GateResult]:
    return [
        GateResult(name=name, status=check["status"], detail=f"{name}: {check.get('detail', check['status'])}")
        for name, check in checks.items()
    ]
