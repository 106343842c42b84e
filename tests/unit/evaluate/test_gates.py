"""Verdicts in words with figures."""

from __future__ import annotations

import pytest

from datk.artifact.manifest import Verdict
from datk.depth.io_spec import DepthKind
from datk.evaluate.gates import Gates, GateVerdict, default_gates, judge, unverified
from datk.evaluate.paired import PairedDrop
from datk.evaluate.parity import ImageParity, Parity


def parity(correlations: list[float | None], *, undefined: str = "the output is constant") -> Parity:
    images = tuple(
        ImageParity(
            name=f"{k:03d}.jpg",
            correlation=c,
            abs_rel=c and 0.01,
            delta1=c and 1.0,
            ordinal=c and 1.0,
            max_error_rel=0.1,
            undefined="" if c is not None else undefined,
        )
        for k, c in enumerate(correlations)
    )
    return Parity(
        candidate="artifact",
        candidate_label="toy",
        reference="net",
        reference_label="torch-cpu",
        depth_kind=DepthKind.DISPARITY_AFFINE_INVARIANT,
        compared_at="bucket",
        images=images,
    )


def drop(points: float) -> PairedDrop:
    return PairedDrop(
        bench="mini", candidate="artifact", reference="net", n=1000, candidate_accuracy=0.8 - points / 100,
        reference_accuracy=0.8, drop_points=points, drop_low=points - 1, drop_high=points + 1, only_reference_right=9,
        only_candidate_right=4, p_worse=0.13,
    )  # fmt: skip


def status(verdict: GateVerdict, name: str) -> str:
    return next(g.status for g in verdict.gates if g.name == name)


@pytest.mark.parametrize(
    ("precision", "median", "worst"),
    [
        ("fp32", 0.9999, None),
        ("fp16", 0.999, None),
        ("int8", 0.98, 0.95),
        ("int8-dynamic", 0.98, 0.95),
        ("lut4", 0.98, 0.95),
    ],
)
def test_default_gates(precision: str, median: float, worst: float | None) -> None:
    gates = default_gates(precision)
    assert (gates.min_median_correlation, gates.min_worst_correlation) == (median, worst)
    assert (gates.max_drop_points, gates.min_photos) == (1.0, 50)


@pytest.mark.parametrize(
    ("precision", "correlation", "expected"),
    [
        ("fp32", 0.99991, "passed"),
        ("fp32", 0.9998, "rejected"),
        ("fp16", 0.9991, "passed"),
        ("fp16", 0.9989, "rejected"),
        ("int8", 0.981, "passed"),
        ("int8", 0.979, "rejected"),
    ],
)
def test_median_correlation_decides_by_precision(precision: str, correlation: float, expected: str) -> None:
    verdict = judge(default_gates(precision), parity([correlation] * 50), drop(0))
    assert verdict.status == expected
    if expected == "rejected":
        assert verdict.reasons[0].startswith(f"median correlation {correlation:.6f} over 50 photographs is below")


def test_one_bad_photograph_rejects_int8_and_is_named() -> None:
    verdict = judge(default_gates("int8"), parity([0.99] * 59 + [0.93]), drop(0))
    assert verdict.status == "rejected"
    assert "worst correlation 0.930000 on 059.jpg" in verdict.reasons[0]
    assert judge(default_gates("int8"), parity([0.99] * 59 + [0.951]), drop(0)).status == "passed"


def test_a_constant_output_on_one_photograph_rejects_with_the_reason() -> None:
    verdict = judge(default_gates("fp32"), parity([1.0] * 60 + [None]), drop(0))
    assert verdict.status == "rejected"
    assert verdict.reasons == ["no usable map on 1 of 61 photographs: 060.jpg (the output is constant)"]


def test_a_constant_output_everywhere_rejects() -> None:
    verdict = judge(default_gates("int8"), parity([None] * 60), drop(0))
    assert verdict.status == "rejected"
    assert "median correlation is undefined on every photograph" in verdict.reasons


def test_a_negative_correlation_rejects() -> None:
    assert judge(default_gates("int8"), parity([-1.0] * 60), drop(0)).status == "rejected"


def test_too_few_photographs_are_not_measured_and_reject_unless_allowed() -> None:
    few = parity([1.0] * 12)
    verdict = judge(default_gates("fp32"), few, drop(0))
    assert verdict.status == "rejected" and status(verdict, "photographs") == "not_measured"
    assert verdict.reasons == [
        "compared on 12 photographs, at least 50 are needed; add photographs, or accept it with --allow-few"
    ]
    allowed = judge(default_gates("fp32"), few, drop(0), allow_few=True)
    assert allowed.status == "passed" and status(allowed, "photographs") == "not_measured"
    assert allowed.reasons == ["compared on 12 photographs, at least 50 are needed; accepted by --allow-few"]
    assert judge(default_gates("fp32"), parity([0.5] * 12), drop(0), allow_few=True).status == "rejected"


def test_photographs_on_which_the_float_net_is_constant_do_not_count() -> None:
    verdict = judge(default_gates("fp32"), parity([1.0] * 49 + [None], undefined="the reference is constant"), drop(0))
    assert verdict.status == "rejected" and status(verdict, "usable output") == "passed"
    assert "compared on 49 photographs (1 more on which the float net itself is constant" in verdict.reasons[0]


@pytest.mark.parametrize(("points", "expected"), [(-3.0, "passed"), (1.0, "passed"), (1.1, "rejected")])
def test_the_observed_paired_drop_decides_the_bench_gate(points: float, expected: str) -> None:
    verdict = judge(default_gates("int8"), parity([0.99] * 50), drop(points))
    assert verdict.status == expected
    detail = next(g.detail for g in verdict.gates if g.name == "bench drop")
    assert "McNemar one-sided p 0.13" in detail and f"drop {points:+.2f} points" in detail


def test_a_bench_that_was_not_run_needs_a_reason_and_is_recorded() -> None:
    with pytest.raises(ValueError, match="reason why there is none"):
        judge(default_gates("fp32"), parity([1.0] * 50), None)
    verdict = judge(default_gates("fp32"), parity([1.0] * 50), None, no_bench_reason="switched off by --bench none")
    assert verdict.status == "passed" and status(verdict, "bench drop") == "not_measured"
    assert verdict.reasons == ["bench drop not measured: switched off by --bench none"]


def test_a_failed_target_check_rejects_and_one_not_measured_is_told() -> None:
    checks = {
        "fp16 range": {"status": "failed", "detail": "blocks.3.fc2 reaches 41000, limit 16250"},
        "engine": {"status": "not_measured", "detail": "no GPU here"},
    }
    verdict = judge(default_gates("fp16"), parity([1.0] * 50), drop(0), checks=checks)
    assert verdict.status == "rejected"
    assert verdict.reasons == ["fp16 range: blocks.3.fc2 reaches 41000, limit 16250", "engine: no GPU here"]


def test_gates_can_be_switched_off_and_the_manifest_keeps_the_verdict() -> None:
    gates = Gates(precision="int8", min_median_correlation=None, max_drop_points=None, min_photos=1)
    verdict = judge(gates, parity([0.1]), None)
    assert verdict.as_verdict() == Verdict(status="passed", reasons=[])


def test_what_could_not_be_run_is_unverified_and_every_gate_says_why() -> None:
    checks = {"engine": {"status": "passed", "detail": "built"}, "twin": {"status": "not_measured", "detail": "few"}}
    verdict = unverified(default_gates("int8"), "no GPU here", checks=checks)
    assert verdict.status == "unverified"
    assert verdict.reasons == ["not measured: no GPU here", "twin: few"]
    gates = [g for g in verdict.gates if g.name not in checks]
    assert {g.name for g in gates} == {g.name for g in judge(default_gates("int8"), parity([1.0] * 50), drop(0)).gates}
    assert all(g.status == "not_measured" and g.value is None and "no GPU here" in g.detail for g in gates)


def test_a_check_that_failed_rejects_what_could_not_be_run() -> None:
    checks = {"fp16-range": {"status": "failed", "detail": "x reaches 7e4"}}
    verdict = unverified(default_gates("fp16"), "no GPU here", checks=checks)
    assert verdict.status == "rejected" and verdict.reasons[0] == "fp16-range: x reaches 7e4"
