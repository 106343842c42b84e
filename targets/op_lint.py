"""Findings on operators of an exported file: what a device's compiler refuses or slows, and the rewrite that helps.

Each target keeps a table of its own (op_rules.py) and reads its own file (op_lint.py); here is what they share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datk.depth.io_spec import Contract

NAME = "op-lint"
Severity = Literal["error", "advice"]
MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing known of a device, its delegate or its compiler."""

    id: str
    device: str
    """Where it matters: "LiteRT GPU delegate"."""
    why: str
    rewrite: str
    """What removes it."""
    source: str
    """Where it is known from."""
    severity: Severity = "advice"
    """error: the file does not do what its target promises; it fails the gate. advice: slower, or on another unit."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One place of the file that a rule speaks of."""

    rule: Rule
    op: str
    """Operator type, in the format's own words."""
    where: str
    """Name of the layer or tensor in the file."""
    said: str = ""
    """What is so there, where the rule's own words do not tell: (1, 5, 4, 3, 2)."""
    severity: Severity | None = None
    """None: the rule's."""


@dataclass(frozen=True, kw_only=True)
class LintRequest:
    """An exported file and what is known of it."""

    artifact: Path
    contract: Contract
    photos: Sequence[NDArray[np.uint8]] = ()
    """Bucket images (h, w, 3) uint8 RGB, for ranges of real activations."""
    options: Any = None
    """As BuildRequest.options."""
    checks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the build has found already."""


@dataclass(frozen=True, kw_only=True)
class OpLint:
    """What a target's lint says of one file."""

    findings: tuple[Finding, ...]
    rules: tuple[Rule, ...]
    """All that were looked for."""
    operators: int
    """How many were looked at."""
    not_measured: Mapping[str, str] = field(default_factory=dict)
    """Rule id -> why it could not be looked for."""


def record(lint: OpLint) -> dict[str, Any]:
    """The check `op-lint`: failed by any error; findings of one rule and operator stand together."""
    errors, advice = (of(lint.findings, which) for which in ("error", "advice"))
    told = [*_sentences("error", errors), *_sentences("advice", advice)]
    skipped = [f"not measured: {rule} ({why})" for rule, why in sorted(lint.not_measured.items())]
    clean = f"{lint.operators} operators, {len(lint.rules) - len(lint.not_measured)} rules, nothing found"
    return {
        "status": "failed" if errors else "passed",
        "detail": "; ".join([*(told or [clean]), *skipped]),
        "findings": [*errors, *advice],
        "rules": sorted(rule.id for rule in lint.rules),
        "operators": lint.operators,
        "not_measured": dict(sorted(lint.not_measured.items())),
    }


def of(findings: Iterable[Finding], severity: Severity) -> list[dict[str, Any]]:
    """Findings of a severity as JSON values, one for each rule and operator, the most frequent first."""
    together: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        if (finding.severity or finding.rule.severity) == severity:
            together[finding.rule.id, finding.op].append(finding)
    made = []
    for (name, op), found in sorted(together.items(), key=lambda item: (-len(item[1]), item[0])):
        rule = found[0].rule
        made.append(
            {
                "rule": name,
                "severity": severity,
                "op": op,
                "count": len(found),
                "where": [f.where + (f": {f.said}" if f.said else "") for f in found[:MOST_NAMED]],
                "device": rule.device,
                "why": rule.why,
                "rewrite": rule.rewrite,
                "source": rule.source,
            }
        )
    return made


def _sentences(severity: str, findings: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{severity} {f['rule']}: {f['count']} {f['op']} ({f['where'][0]})" for f in findings]
