"""Operators of a saved .pte file that XNNPACK leaves to plain kernels or refuses. Rules: op_rules.py."""

from __future__ import annotations

from collections.abc import Iterator

from datk.targets.executorch import op_rules as rules
from datk.targets.executorch.program import PteProgram, read_program
from datk.targets.op_lint import Finding, LintRequest, OpLint


def lint(request: LintRequest) -> OpLint:
    """Every finding in a saved file; all arithmetic is float32 or int8, so no range of float16 is looked at.

    Raises TargetError when it is no .pte file.
    """
    program = read_program(request.artifact)
    count = len(program.nodes) + len(program.kernels)
    return OpLint(findings=tuple(findings(program)), rules=rules.RULES, operators=count)


def findings(program: PteProgram) -> Iterator[Finding]:
    """What can be seen in the file."""
    for kernel in program.kernels:
        library, _, name = kernel.name.rpartition("::")
        if library == rules.BOOKKEEPING:
            continue
        rule = rules.KERNEL if library in rules.KNOWN else rules.CUSTOM
        yield Finding(rule=rule, op=name, where=kernel.where, said="" if rule is rules.KERNEL else kernel.name)
    for node in program.nodes:
        deep = [v.shape for v in (*node.inputs, node.output) if len(v.shape) > rules.MOST_SIDES]
        if deep:
            yield Finding(rule=rules.RANK, op=node.kind, where=node.where, said=str(deep[0]))
