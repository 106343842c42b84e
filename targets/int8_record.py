"""One record of what a saved int8 file holds, whatever its format: BuildResult.checks["int8-scheme"]."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NAME = "int8-scheme"
_MOST_NAMED = 6


@dataclass(kw_only=True)
class Int8Findings:
    """What a target's lint counted in the file. The lists hold names; any entry is a failure."""

    meant: int
    """Layers the scheme selects in the float net."""
    int8_ops: dict[str, int]
    """Operation type -> how many truly run in int8: data and weights are both stored as int8."""
    float_ops: dict[str, int]
    """Operation type -> how many operations with weights run in float."""
    int8_weight_bytes: int
    not_int8: list[str] = field(default_factory=list)
    """Layers meant for int8 that are stored or run in float."""
    float_weights: list[str] = field(default_factory=list)
    """Layers that read int8 data while their weights lie in the file as float (fake quantisation)."""
    fragile: list[str] = field(default_factory=list)
    """What must stay in float but touches int8: residual adds, LayerNorms, softmaxes, attention products and others."""
    zero_points: list[str] = field(default_factory=list)
    """Zero points other than 0, where the compiler takes no other."""
    per_tensor: list[str] = field(default_factory=list)
    """Layers with one scale for all output channels."""
    scales: list[str] = field(default_factory=list)
    """Sentences on layers whose numbers are not those of the quantised program (datk.targets.int8_layers)."""
    other: list[str] = field(default_factory=list)
    """Sentences on anything else the format must hold."""

    def record(self) -> dict[str, Any]:
        """The check: status, one sentence a problem, the counts and the names."""
        count = sum(self.int8_ops.values())
        problems = [
            *(["the program holds no layer the scheme would quantise"] if self.meant == 0 else []),
            *(["no layer runs in int8"] if count == 0 else []),
            *_told(self.not_int8, f"of {self.meant} layers meant for int8 are stored or run in float"),
            *_told(self.float_weights, "quantised layers have their weights stored as float"),
            *_told(self.fragile, "operations must stay in float but touch int8"),
            *_told(self.zero_points, "zero points are not 0"),
            *_told(self.per_tensor, "layers have one scale for all output channels"),
            *_told(self.scales, "numbers differ from the quantised program"),
            *self.other,
        ]
        named = {
            kind: list(getattr(self, kind))
            for kind in ("not_int8", "float_weights", "fragile", "zero_points", "per_tensor", "scales", "other")
            if getattr(self, kind)
        }
        good = f"all {self.meant} layers the scheme selects run in int8 ({_words(self.int8_ops)}); in float: "
        return {
            "status": "failed" if problems else "passed",
            "detail": "; ".join(problems) or good + _words(self.float_ops),
            "meant": self.meant,
            "int8_ops": dict(sorted(self.int8_ops.items())),
            "float_ops": dict(sorted(self.float_ops.items())),
            "int8_weight_bytes": self.int8_weight_bytes,
            "problems": named,
        }


def some(names: list[str]) -> str:
    """The first few names and how many more."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _told(names: list[str], what: str) -> list[str]:
    return [f"{len(names)} {what}: {some(names)}"] if names else []


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) or "none"
