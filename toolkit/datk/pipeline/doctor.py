"""What a target needs and what is here: its requirements.txt against the installed distributions."""

from __future__ import annotations

from importlib.resources import files

from packaging.requirements import Requirement
from pydantic import BaseModel

from datk.artifact.provenance import tool_versions
from datk.targets.base import Target


class Need(BaseModel):
    """One requirement of one target."""

    target: str
    need: str
    version: str | None
    """Installed version that satisfies it; None when absent, too old, or not for this platform."""
    required: bool
    """False when the requirement does not apply to this platform."""
    remedy: str


def examine(target: Target) -> list[Need]:
    """Every line of the target's requirements.txt, judged on this machine."""
    text = files(target.package).joinpath("requirements.txt").read_text(encoding="utf-8")
    needs = []
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if not line:
            continue
        requirement = Requirement(line)
        applies = requirement.marker is None or requirement.marker.evaluate()
        version = tool_versions((requirement.name,))[requirement.name]
        good = version != "absent" and requirement.specifier.contains(version, prereleases=True)
        remedy = f'pip install "datk[{target.extra}]"' if applies else "not available on this platform"
        need = f"{requirement.name}{requirement.specifier}"
        needs.append(
            Need(target=target.name, need=need, version=version if good else None, required=applies, remedy=remedy)
        )
    return needs
