"""An engine tells nothing of its operators: the graph it was built from is looked at, by the jetson target's rules."""

from __future__ import annotations

from dataclasses import replace

from datk.targets.jetson.op_lint import lint as lint_graph
from datk.targets.op_lint import LintRequest, OpLint
from datk.targets.rtx.build import SOURCE


def lint(request: LintRequest) -> OpLint:
    """Every finding in model.onnx beside the engine. Raises TargetError when it cannot be read."""
    return lint_graph(replace(request, artifact=request.artifact.with_name(SOURCE)))
