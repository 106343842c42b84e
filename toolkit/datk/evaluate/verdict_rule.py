"""Which precision of a target to ship, in one sentence: a pure function from figures to words.

Every threshold stands in Thresholds. The float artifact (fp32 or fp16) that passed its gates is the base; whatever is
weaker must be a real gain over it and must not be worse. What is slower, worse or unproven is not shipped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from datk.evaluate.verdict_statistics import Change, Speedup

FLOAT = ("fp32", "fp16")
Status = Literal["ship", "rejected", "undecided", "not needed", "unverified"]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """When a weaker precision is worth shipping. The observed figure decides on harm, the interval on speed."""

    min_speedup: float = 1.10
    """Times as fast as the base that the lower end of the interval must reach for speed alone to be the gain."""
    min_shrink: float = 1.5
    """Times smaller than the base for size to be the gain, where it is not slower."""
    not_slower: float = 0.97
    """The lower end of the interval must reach this before anything smaller counts as not slower."""
    max_loss_pp: float = 0.5
    """Percentage points lost on the bench."""
    max_error_rise: float = 0.01
    """Rise of AbsRel on photographs; ViT-S and ViT-L are 0.008 apart on NYU (Table 2 of Depth Anything V2)."""
    max_edge_loss: float = 0.02
    """Loss of boundary F1, a share."""


DEFAULT = Thresholds()


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Contestant(_Record):
    """One precision of a target at one bucket, as far as the choice needs it."""

    precision: str
    passed: bool
    """Its gates, all of them."""
    why_not: str = ""
    """The first gate that failed, in words."""
    not_run: str = ""
    """Why it could not be run, where nothing else is against it; it is then neither shipped nor rejected."""
    size_bytes: float


class Compared(_Record):
    """A precision against the base. None: not measured, `no_speed` then says why."""

    speed: Speedup | None
    no_speed: str = ""
    smaller: float
    """The base's bytes over its own."""
    accuracy: Change | None
    dense: Change | None
    edges: Change | None


class Decision(_Record):
    """What becomes of one precision."""

    precision: str
    status: Status
    words: str
    """Figures and, where they alone do not say it, the reason."""


class Choice(_Record):
    """The verdict of a target at one bucket."""

    ship: str | None
    """Precision; None when nothing passed its gates."""
    base: str | None
    decisions: tuple[Decision, ...]
    sentence: str


Pairs = Mapping[tuple[str, str], Compared]
"""(precision, base) -> figures; at least every precision against every other float one that passed its gates."""


def best_float(contestants: Sequence[Contestant], pairs: Pairs, thresholds: Thresholds = DEFAULT) -> str | None:
    """The float precision others are compared with: the smallest that passed, unless another is surely faster."""
    floats = sorted(
        (c for c in contestants if c.precision in FLOAT and c.passed), key=lambda c: (c.size_bytes, c.precision)
    )
    if not floats:
        return None
    best = floats[0]
    for other in floats[1:]:
        speed = pairs[other.precision, best.precision].speed
        if speed is not None and speed.low >= thresholds.min_speedup:
            best = other
    return best.precision


def choose(contestants: Sequence[Contestant], pairs: Pairs, thresholds: Thresholds = DEFAULT) -> Choice:
    """Exactly one precision that passed its gates is shipped, or none when none passed. Raises ValueError for none.

    contestants: every precision once.
    """
    if not contestants or len({c.precision for c in contestants}) != len(contestants):
        raise ValueError("expected every precision once, and at least one")
    passed = [c for c in contestants if c.passed]
    base = best_float(contestants, pairs, thresholds)
    if base is None:
        smallest = min(passed, key=lambda c: (c.size_bytes, c.precision), default=None)
        return _result(smallest.precision if smallest else None, None, [_alone(c, smallest) for c in contestants])
    against = {c.precision: pairs[c.precision, base] for c in passed if c.precision != base}
    good = {p: c for p, c in against.items() if p not in FLOAT and _objection(c, thresholds) is None}
    ship = max(good, key=lambda p: (_known_speed(good[p]), good[p].smaller, p), default=base)
    decisions = []
    for contestant in contestants:
        precision = contestant.precision
        if not contestant.passed:
            decisions.append(_failed(contestant))
        elif precision == ship:
            words = "" if precision == base else f"{figures(against[precision])}, {_smaller(against[precision])}"
            decisions.append(Decision(precision=precision, status="ship", words=words))
        elif precision == base:
            decisions.append(Decision(precision=precision, status="not needed", words=f"{ship} is better"))
        elif precision in FLOAT:
            words = f"{_speed(against[precision])}, {_smaller(against[precision])}"
            decisions.append(Decision(precision=precision, status="not needed", words=words))
        else:
            decisions.append(_weaker(precision, against[precision], ship, thresholds))
    return _result(ship, base, decisions)


def _known_speed(compared: Compared) -> float:
    return compared.speed.value if compared.speed is not None else 0.0


def _alone(contestant: Contestant, chosen: Contestant | None) -> Decision:
    """Where no float artifact passed its gates there is nothing to compare with."""
    if not contestant.passed:
        return _failed(contestant)
    if contestant is chosen:
        words = "no float artifact that passed its gates stands beside it to compare with"
        return Decision(precision=contestant.precision, status="ship", words=words)
    return Decision(precision=contestant.precision, status="not needed", words="larger, and nothing to compare with")


def _failed(contestant: Contestant) -> Decision:
    if contestant.not_run:
        return Decision(precision=contestant.precision, status="unverified", words=contestant.not_run)
    why = contestant.why_not.split("; ")[0] or "a gate failed"
    return Decision(precision=contestant.precision, status="rejected", words=f"by its gates: {why}")


def _weaker(precision: str, compared: Compared, ship: str, thresholds: Thresholds) -> Decision:
    objection = _objection(compared, thresholds)
    if objection is None:
        words = f"{figures(compared)}, {_smaller(compared)}; {ship} is faster"
        return Decision(precision=precision, status="not needed", words=words)
    status, reason = objection
    words = figures(compared) if status == "rejected" else f"{_smaller(compared)} for {_points(compared.accuracy)}"
    return Decision(precision=precision, status=status, words=words + (f", {reason}" if reason else ""))


def _objection(compared: Compared, t: Thresholds) -> tuple[Literal["rejected", "undecided"], str] | None:
    """Why a weaker precision that passed its gates is not shipped; the reason is empty where its figures say it."""
    if (lost := harm(compared, t)) is not None:
        return "rejected", lost
    if compared.speed is None:
        return "undecided", f"speed not known: {compared.no_speed}"
    if compared.speed.low >= t.min_speedup:
        return None
    if compared.smaller >= t.min_shrink and compared.speed.low >= t.not_slower:
        return None
    if compared.speed.value < t.not_slower:
        return "rejected", "slower"
    if compared.speed.value < t.min_speedup and compared.smaller < t.min_shrink:
        return "rejected", ""
    return "rejected", f"not sure enough (95 % {_cut(compared.speed.low)} to {_cut(compared.speed.high)})"


def harm(compared: Compared, thresholds: Thresholds = DEFAULT) -> str | None:
    """What it loses beyond the thresholds, in words that are empty where its figures say it; None: nothing."""
    if compared.accuracy is not None and compared.accuracy.loss > thresholds.max_loss_pp:
        return ""
    if compared.dense is not None and compared.dense.loss > thresholds.max_error_rise:
        return f"AbsRel {compared.dense.value:+.3f}"
    if compared.edges is not None and compared.edges.loss > thresholds.max_edge_loss:
        return f"edges {_signed(100 * compared.edges.value)} pt of F1"
    return None


def figures(compared: Compared) -> str:
    """ "1.06x for -1.2 pt"."""
    return f"{_speed(compared)} for {_points(compared.accuracy)}"


def _speed(compared: Compared) -> str:
    return f"{_cut(compared.speed.value)}x" if compared.speed is not None else "speed not known"


def _smaller(compared: Compared) -> str:
    if compared.smaller >= 1:
        return f"{_cut(compared.smaller)}x smaller"
    return f"{_cut(1 / compared.smaller)}x larger"


def _points(accuracy: Change | None) -> str:
    return "an accuracy nobody compared" if accuracy is None else f"{_signed(accuracy.value)} pt"


def _cut(value: float) -> str:
    """Two decimals, never rounded up: 1.0999 must not read as the 1.10 it did not reach."""
    return f"{math.floor(100 * value + 1e-9) / 100:.2f}"


def _signed(value: float) -> str:
    """One decimal with its sign; a zero has none."""
    text = f"{value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _result(ship: str | None, base: str | None, decisions: Sequence[Decision]) -> Choice:
    """Put the shipped one first, then every other in order."""
    chosen = next((d for d in decisions if d.precision == ship), None)
    first = "ship nothing" if chosen is None else f"ship {ship}" + (f": {chosen.words}" if chosen.words else "")
    if chosen is not None and base is not None and ship != base:
        first += f" than {base}" if chosen.words.endswith(("smaller", "larger")) else ""
    told: dict[tuple[str, str], list[str]] = {}
    for d in decisions:
        if d.precision == ship or (d.precision == base and d.status == "not needed"):
            continue
        alone = "" if d.status == "unverified" else d.precision  # one machine is the reason for all of those
        told.setdefault((f"{d.status}: {d.words}", alone), []).append(d.precision)
    rest = [f"{' and '.join(precisions)} {words}" for (words, _), precisions in told.items()]
    return Choice(ship=ship, base=base, decisions=tuple(decisions), sentence="; ".join([first, *rest]))
