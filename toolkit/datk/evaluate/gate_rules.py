"""`--gate "da2k>=-0.5pp vs float"`: rules on a benchmark's figures, their grammar and their judgement.

    FIGURE OP NUMBER[UNIT] [vs NAME] [surely | unless noise]

    FIGURE   the benchmark's name (its first figure), accuracy, abs_rel, delta1, ..., or VARIANT.FIGURE (metric.abs_rel)
    OP       >= or <=
    UNIT     pp = percentage points (shares); % = percent of the reference's figure, or a share in percent without vs;
             none = the figure's own unit
    vs NAME  the rule is about candidate - NAME on what both were scored on; NAME is another model of the call, or
             `float` for the float net of the candidate's run (or of --reference)
    surely        the whole 95 % interval must keep the rule, not the observed figure alone
    unless noise  a figure that breaks the rule passes when it cannot be distinguished from NAME's

Without either word the observed figure decides, and the interval and the test are told beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from datk.errors import UsageError
from datk.evaluate.benchmarks.dense import DenseResult
from datk.evaluate.benchmarks.pairs import BenchResult
from datk.evaluate.comparison import Difference, compare, figure, headline
from datk.evaluate.gates import GateResult

FLOAT = "float"
EXAMPLE = '"da2k>=-0.5pp vs float", "abs_rel<=+2% vs float surely" or "delta1>=95%"'
_RULE = re.compile(
    r"\s*(?P<figure>[A-Za-z_][\w.]*)\s*(?P<op>>=|<=)\s*(?P<number>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)\s*(?P<unit>pp|%)?"
    r"(\s+vs\s+(?P<name>.+?))?(\s+(?P<how>surely|unless noise))?\s*$"
)
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class GateRule:
    """One --gate."""

    text: str
    figure: str
    op: Literal[">=", "<="]
    number: float
    unit: str
    versus: str | None
    how: Literal["", "surely", "unless noise"]

    def keeps(self, value: float) -> bool:
        """Whether a figure, in the rule's unit, keeps the rule."""
        slack = _TOLERANCE * max(1.0, abs(self.number))
        return value >= self.number - slack if self.op == ">=" else value <= self.number + slack


def parse_rule(text: str) -> GateRule:
    """Raises UsageError with the grammar when it is not one."""
    match = _RULE.match(text)
    if match is None:
        raise UsageError(f'--gate "{text}": not a rule', hint=f"FIGURE>=NUMBER[pp|%] [vs NAME], such as {EXAMPLE}")
    name, how = match["name"], match["how"] or ""
    if how and name is None:
        raise UsageError(f'--gate "{text}": "{how}" needs "vs NAME": it is about a difference')
    if match["unit"] == "pp" and name is None:
        raise UsageError(f'--gate "{text}": pp is a difference; add "vs NAME", or write % for a share')
    op: Literal[">=", "<="] = ">=" if match["op"] == ">=" else "<="
    kind: Literal["", "surely", "unless noise"] = "surely" if how == "surely" else "unless noise" if how else ""
    return GateRule(text.strip(), match["figure"], op, float(match["number"]), match["unit"] or "", name, kind)


def judge_rule(
    rule: GateRule, candidate: BenchResult | DenseResult, others: Mapping[str, BenchResult | DenseResult]
) -> GateResult | None:
    """The rule on one model; None for the model it is compared with.

    others: results by name, the float net as "float". Raises UsageError when NAME is not among them or the figure is
    unknown.
    """
    metric = headline(candidate) if rule.figure == candidate.bench else rule.figure
    broken = _broken(candidate)
    if broken:
        return GateResult(name=rule.text, status="failed", threshold=rule.number, detail=f"{rule.text}: {broken}")
    if rule.versus is None:
        return _absolute(rule, candidate, metric)
    if rule.versus not in others:
        raise UsageError(
            f"--gate \"{rule.text}\": no model named '{rule.versus}' in this call",
            hint=f"known: {', '.join(others)}" if others else "--reference CHECKPOINT names the float net",
        )
    reference = others[rule.versus]
    if reference is candidate:
        return None
    difference = compare(candidate, reference, metric=metric)
    value, low, high = _in_unit(rule, difference)
    keeps = rule.keeps(value)
    if rule.how == "surely":
        keeps = rule.keeps(low) and rule.keeps(high)
    elif rule.how == "unless noise" and not keeps:
        keeps = not difference.distinguishable
    return GateResult(
        name=rule.text,
        status="passed" if keeps else "failed",
        value=value,
        threshold=rule.number,
        n=difference.n,
        detail=f"{rule.text}: {value:+.3g}{rule.unit} (95 % {low:+.3g} to {high:+.3g}); {difference.words}",
    )


def _absolute(rule: GateRule, candidate: BenchResult | DenseResult, metric: str) -> GateResult:
    value = figure(candidate, metric)
    share = isinstance(candidate, DenseResult) and rule.unit == "%"
    value = 100 * value if share else value
    n, counted = (
        (candidate.overall.n, "pairs") if isinstance(candidate, BenchResult) else (candidate.n_scored, "images")
    )
    return GateResult(
        name=rule.text,
        status="passed" if rule.keeps(value) else "failed",
        value=value,
        threshold=rule.number,
        n=n,
        detail=f"{rule.text}: {value:.4g}{rule.unit} over {n} {counted}",
    )


def _in_unit(rule: GateRule, difference: Difference) -> tuple[float, float, float]:
    """(value, low, high) of the difference in the rule's unit."""
    if rule.unit == "%":
        base = difference.reference_value
        if base == 0:
            raise UsageError(f'--gate "{rule.text}": the reference\'s figure is 0, there is no percentage of it')
        ends = sorted((100 * difference.low / abs(base), 100 * difference.high / abs(base)))
        return 100 * difference.value / abs(base), ends[0], ends[1]
    if rule.unit == "pp" and difference.unit != "pp":
        raise UsageError(
            f'--gate "{rule.text}": {difference.metric} is no share; pp does not apply',
            hint="leave the unit out, or use %",
        )
    scale = 1.0 if rule.unit == difference.unit or difference.unit != "pp" else 0.01
    return scale * difference.value, scale * difference.low, scale * difference.high


def _broken(result: BenchResult | DenseResult) -> str:
    """Why no rule can hold: predictions that failed are not in the figures."""
    if isinstance(result, DenseResult):
        if result.failed:
            first, why = next(iter(result.failed.items()))
            return f"{len(result.failed)} predictions failed and are in no figure; first {first}: {why}"
        return ""
    return f"{result.not_finite} pairs read a value that is not finite" if result.not_finite else ""
