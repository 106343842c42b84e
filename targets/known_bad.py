"""Tool versions known to give wrong artifacts for this kind of net: looked up before anything is searched."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict

from datk.depth.io_spec import Contract
from datk.targets.base import Target

TABLE = "known_bad.yaml"


class Row(BaseModel):
    """One line of known_bad.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    tool: str
    """Distribution or runtime, as in a manifest's `tools`: tensorrt, coremltools, numpy."""
    versions: str
    """PEP 440 specifiers: ">=10.3,<10.5"."""
    targets: tuple[str, ...]
    precisions: tuple[str, ...] = ()
    """Empty: all."""
    symptom: str
    advice: str
    sources: tuple[str, ...]
    """Where it was reported or seen."""


class Known(BaseModel):
    """A row that concerns an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    certain: bool
    """The tool's version is known and among the bad; False: it runs elsewhere and its version is not known here."""
    tool: str
    version: str | None
    versions: str
    symptom: str
    advice: str
    sources: tuple[str, ...]

    def sentence(self) -> str:
        """For a message."""
        which = f"{self.tool} {self.version}" if self.certain else f"if it runs on {self.tool} {self.versions}"
        return f"known bad: {which}: {self.symptom} ({', '.join(self.sources)}); {self.advice}"


@cache
def table() -> tuple[Row, ...]:
    """Every row of the table."""
    text = files(__package__ or "datk.targets").joinpath(TABLE).read_text(encoding="utf-8")
    return tuple(Row.model_validate(row) for row in yaml.safe_load(text)["known_bad"])


def known_bad(target: Target, contract: Contract, tools: Mapping[str, str]) -> tuple[Known, ...]:
    """Rows that concern this target and precision: certain ones first, then those whose tool is not known here.

    tools: version by name, of what built the artifact and of what runs it; "absent" counts as unknown.
    """
    found = []
    for row in table():
        if target.name not in row.targets or (row.precisions and contract.precision not in row.precisions):
            continue
        version = tools.get(row.tool, "absent")
        certain = version != "absent" and _within(version, row.versions)
        if certain or version == "absent":
            shown = row.model_dump(exclude={"targets", "precisions"})
            found.append(Known(certain=certain, version=version if certain else None, **shown))
    return tuple(sorted(found, key=lambda k: not k.certain))


def versions_of(name: str) -> str:
    """Bad versions of a row, by its name."""
    return next(row.versions for row in table() if row.name == name)


def _within(version: str, specifiers: str) -> bool:
    try:
        return SpecifierSet(specifiers, prereleases=True).contains(Version(version))
    except InvalidVersion:
        return False
