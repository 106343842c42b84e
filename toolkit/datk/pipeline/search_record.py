"""What a search over int8 schemes has tried: RUN/search-TARGET.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datk.artifact.files import write_json
from datk.errors import DataError

Outcome = Literal["ship", "undecided", "no gain", "worse", "failed"]


class Tried(BaseModel):
    """One rung, built and judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    precision: str
    scheme: dict[str, Any] | None
    """The recipe's section targets[].scheme; None: the target's own scheme."""
    qat: dict[str, Any] | None = None
    """The recipe's section targets[].qat; None: nothing was trained."""
    outcome: Outcome
    """no gain: accuracy holds, but it is not worth it. worse: a gate failed or it loses more than the rule allows."""
    words: str
    """Of the verdict, or why it could not be built."""
    seconds: float


class SearchRecord(BaseModel):
    """All rungs tried on the same student, photographs and code."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    target: str
    key: str
    """sha256 over what the rungs depend on: with another one the search begins anew."""
    rungs: list[Tried] = Field(default_factory=list)

    def find(self, name: str) -> Tried | None:
        """The rung of that name, if it was tried."""
        return next((r for r in self.rungs if r.name == name), None)


def read_record(path: Path, key: str, target: str) -> SearchRecord:
    """As far as an earlier call came; an empty one where there is none or it was about something else.

    Raises DataError for a damaged file.
    """
    empty = SearchRecord(target=target, key=key)
    if not path.is_file():
        return empty
    try:
        found = SearchRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise DataError(f"{path}: not a record of a search ({error})", hint="delete it and search again") from error
    return found if found.key == key else empty


def write_record(record: SearchRecord, path: Path) -> None:
    """Write atomically."""
    write_json(path, record.model_dump(mode="json"))
