"""What to ship on one device: the run's own rule, on that device's times and on the maps it returned."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from datk.depth.io_spec import Size
from datk.evaluate.verdict_rule import FLOAT, Compared, Contestant, Decision, choose
from datk.evaluate.verdict_statistics import LEAST_ROUNDS, changes, speedup


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OnDevice(_Record):
    """One precision as one device ran it."""

    precision: str
    sha256: str
    passed: bool
    why_not: str = ""
    size_bytes: float
    beside: str | None
    """sha256 of the artifact it took turns with; None: it was timed alone."""
    times_ms: tuple[float, ...] = ()
    """Medians of its rounds."""
    beside_ms: tuple[float, ...] = ()
    """Of the other one, in the same rounds."""
    no_speed: str = ""
    """Why its times say nothing of the device; empty where they do."""
    details: dict[str, Any] = Field(repr=False)
    """As validation keeps them: the bench's outcomes, figures photograph by photograph."""


class DeviceVerdict(_Record):
    """Which precision of a target to ship on one device, and why."""

    device: str
    target: str
    input_size: Size
    ship: str | None
    base: str
    """The float precision the others took turns with there."""
    sentence: str
    speed_by: str
    """Whose clock, in words; empty where no speed is known."""
    decisions: tuple[Decision, ...]
    compared: dict[str, Compared]
    """Precision -> its figures against the base."""

    @property
    def headline(self) -> str:
        """The sentence, and before it where it holds."""
        h, w = self.input_size
        tail = f" ({self.speed_by})" if self.speed_by else ""
        return f"{self.target} {h}x{w} on {self.device}: {self.sentence}{tail}"


def device_verdict(
    device: str, target: str, input_size: Size, seen: list[OnDevice], *, speed_by: str
) -> DeviceVerdict | None:
    """The rule of datk.evaluate.verdict_rule over what one device returned of one target at one size.

    The base is the float artifact (fp32 or fp16) that weaker ones took turns with; other float ones are left out.
    speed_by: whose clock it was, told where at least one speed is known. None when no weaker precision was run beside a
    float one. Raises DataError when two precisions were not scored on the same pairs.
    """
    floats = {s.sha256: s for s in seen if s.precision in FLOAT}
    base = next((floats[s.beside] for s in seen if s.precision not in FLOAT and s.beside in floats), None)
    if base is None:
        return None
    others = [s for s in seen if s.precision not in FLOAT]
    compared = {s.precision: _compare(s, base) for s in others}
    choice = choose(
        [
            Contestant(precision=s.precision, passed=s.passed, why_not=s.why_not, size_bytes=s.size_bytes)
            for s in (base, *others)
        ],
        {(s.precision, base.precision): compared[s.precision] for s in others},
    )
    return DeviceVerdict(
        device=device,
        target=target,
        input_size=input_size,
        ship=choice.ship,
        base=base.precision,
        sentence=choice.sentence,
        speed_by=speed_by if any(c.speed for c in compared.values()) else "",
        decisions=choice.decisions,
        compared=compared,
    )


def _compare(one: OnDevice, base: OnDevice) -> Compared:
    why = one.no_speed
    if not why and one.beside != base.sha256:
        why = f"it did not take turns with {base.precision} there"
    if not why and len(one.times_ms) < LEAST_ROUNDS:
        why = f"{len(one.times_ms)} rounds, at least {LEAST_ROUNDS} are needed"
    accuracy, dense, edges = changes(one.details, base.details)
    return Compared(
        speed=None if why else speedup(one.times_ms, one.beside_ms),
        no_speed=why,
        smaller=base.size_bytes / one.size_bytes,
        accuracy=accuracy,
        dense=dense,
        edges=edges,
    )
