"""Operations of a saved IR that an NPU refuses, or that overflow in float16. Rules: op_rules.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datk.targets.activation_range import too_large_for_half
from datk.targets.op_lint import Finding, LintRequest, OpLint
from datk.targets.openvino import op_rules as rules
from datk.targets.openvino.ir import load
from datk.targets.openvino.trace import open_trace


def lint(request: LintRequest) -> OpLint:
    """Every finding in a saved IR. Raises DataError or TargetError when it cannot be read."""
    model = load(request.artifact)
    found = list(findings(model))
    missing: dict[str, str] = {}
    if request.photos:
        found += too_large_for_half(
            open_trace(request.artifact, request.contract), request.photos, rules.HALF, without=rules.MOVES
        )
    else:
        missing[rules.HALF.id] = "no photographs"
    count = sum(node.get_type_name() not in ("Constant", "Parameter", "Result") for node in model.get_ordered_ops())
    return OpLint(findings=tuple(found), rules=rules.RULES, operators=count, not_measured=missing)


def findings(model: Any) -> Iterator[Finding]:
    """What can be seen without running an openvino.Model."""
    for node in model.get_ordered_ops():
        kind, name = node.get_type_name(), node.get_friendly_name()
        if kind in rules.CONTROL_FLOW:
            yield Finding(rule=rules.FLOW, op=kind, where=name)
        if loose := [output for output in node.outputs() if output.get_partial_shape().is_dynamic]:
            yield Finding(rule=rules.DYNAMIC, op=kind, where=name, said=str(loose[0].get_partial_shape()))
