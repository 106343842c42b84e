"""Operations of a saved package that stay off the Neural Engine, or overflow in float16. Rules: op_rules.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from datk.targets.activation_range import too_large_for_half
from datk.targets.coreml import op_rules as rules
from datk.targets.coreml.reference.program import Operation, Program, read_program
from datk.targets.coreml.trace import open_trace
from datk.targets.op_lint import Finding, LintRequest, OpLint, Rule


def lint(request: LintRequest) -> OpLint:
    """Every finding in a saved package. Raises TargetError when it cannot be read."""
    program = read_program(request.artifact)
    found = list(findings(program))
    missing: dict[str, str] = {}
    if request.contract.precision == "fp32":
        missing[rules.HALF.id] = "an fp32 package computes in float32"
    elif not request.photos:
        missing[rules.HALF.id] = "no photographs"
    else:
        found += too_large_for_half(
            open_trace(request.artifact, request.contract), request.photos, rules.HALF, without=rules.MOVES
        )
    count = sum(program.histogram().values())
    return OpLint(findings=tuple(found), rules=rules.RULES, operators=count, not_measured=missing)


def findings(program: Program) -> Iterator[Finding]:
    """What can be seen without running the program."""
    constants = {name: op.value for op in program.operations if op.type == "const" for name in op.outputs}
    for op in program.operations:
        if op.type == "const":
            continue
        shapes = [t.shape for t in op.outputs.values()]
        rank = max((len(shape) for shape in shapes), default=0)
        if rank > 5:
            yield _finding(rules.RANK, op, f"{rank} dimensions")
        elif rank == 5:
            yield _finding(rules.FIVE, op, str(shapes[0]))
        if op.type in rules.OFF_ENGINE:
            yield _finding(rules.OP, op)
        if op.type == "conv" and (dilation := _largest(op, "dilations", constants)) > 1:
            yield _finding(rules.DILATED, op, f"by {dilation}")
        if op.type in rules.LAYOUT_OPS and rank == 3:
            yield _finding(rules.LAYOUT, op, str(shapes[0]))
        if op.type == "quantize":
            yield _finding(rules.W8A8, op)
        if op.type != "cast" and any(t.dtype == "float32" for t in op.outputs.values()):
            yield _finding(rules.SINGLE, op)


def _largest(op: Operation, key: str, constants: Mapping[str, object]) -> int:
    """Of a constant input of integers; 1 when it has none."""
    if key not in op.inputs:
        return 1
    argument = op.inputs[key][0]
    value = argument if key in op.bound else constants.get(str(argument), 1)
    return int(np.asarray(value).max())


def _finding(rule: Rule, op: Operation, said: str = "") -> Finding:
    return Finding(rule=rule, op=op.type, where=op.name, said=said)
