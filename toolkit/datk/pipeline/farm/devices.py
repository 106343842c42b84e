"""What `datk farm devices` lists."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datk.errors import DatkError, UsageError
from datk.farm import adapters
from datk.farm.inventory import Device


@dataclass(frozen=True)
class Listed:
    """One device and, when it was asked, what it said."""

    device: Device
    figures: str
    told: dict[str, object] | None = None
    trouble: str | None = None

    @property
    def state(self) -> str:
        """One phrase for the table."""
        if self.device.disabled is not None:
            return f"disabled: {self.device.disabled}"
        if self.trouble is not None:
            return self.trouble
        if self.told is None:
            return "not asked"
        runtimes = self.told.get("runtimes")
        names = ", ".join(f"{k} {v}" for k, v in runtimes.items()) if isinstance(runtimes, dict) else "none"
        return f"{self.told.get('machine')}, {self.told.get('model') or 'unnamed'}: {names or 'no runtime'}"

    def cells(self) -> list[str]:
        d = self.device
        return [d.name, d.kind, " ".join(d.labels), self.figures, "yes" if d.controlled else "no", self.state]

    def as_json(self) -> dict[str, Any]:
        d = self.device
        return {
            "name": d.name,
            "kind": d.kind,
            "labels": list(d.labels),
            "figures": self.figures,
            "controlled": d.controlled,
            "disabled": d.disabled,
            "told": self.told,
            "trouble": self.trouble,
        }


def listed(devices: Sequence[Device], *, probe: bool) -> list[Listed]:
    """The devices, each asked what it is when `probe`. A device that cannot be reached is a line, not an error."""
    return asyncio.run(_listed(devices, probe=probe))


async def _listed(devices: Sequence[Device], *, probe: bool) -> list[Listed]:
    return list(await asyncio.gather(*(_one(device, probe=probe) for device in devices)))


async def _one(device: Device, *, probe: bool) -> Listed:
    adapter = adapters.get(device.kind)
    if not probe or device.disabled is not None:
        return Listed(device, adapter.figures)
    try:
        async with adapter.open(device) as session:
            return Listed(device, adapter.figures, told=await session.probe())
    except DatkError as error:
        return Listed(device, adapter.figures, trouble=error.message)


def ci_matrix(
    devices: Sequence[Device], *, untrusted: bool, recipes: Sequence[str] = ("quickstart",)
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """GitHub's strategy.matrix twice: `builds`, a job a recipe, and `devices`, a job a device and recipe.

    untrusted: only what changes from outside may reach, without secrets. Raises UsageError when no device is left: an
    empty matrix would pass without having judged anything.
    """
    builds = [{"recipe": r, "slug": re.sub(r"[^A-Za-z0-9._-]+", "-", r).strip("-.")} for r in dict.fromkeys(recipes)]
    jobs = [
        {
            "device": d.name,
            "kind": d.kind,
            "runner": list(d.runner),
            "environment": "" if untrusted else d.environment or "",
            "timeout_minutes": int(15 + d.limits.timeout_s * d.limits.attempts / 60),
            **build,
        }
        for d in devices
        if d.disabled is None and (not untrusted or (d.untrusted_changes and not d.self_hosted))
        for build in builds
    ]
    if not jobs:
        raise UsageError(
            "no device is left for this change", hint="untrusted changes need a device with untrusted_changes: true"
        )
    return {"builds": {"include": builds}, "devices": {"include": jobs}}
