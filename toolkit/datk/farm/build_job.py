"""The other unit of work: a script that came with an artifact makes files on the device, and they are brought back."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from datk.artifact.files import sha256_json
from datk.farm.inventory import Device, Runtime
from datk.farm.job import Job, Record, agent_sha256

FOLDER = "export"
"""Within the job's folder on the device: what was sent, and what the script leaves."""
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,120}$")]
"""One folder's plain name: no slash, no leading dot or dash, nothing a shell reads."""


class SentFile(Record):
    """A file of the export folder."""

    name: FileName
    path: str
    sha256: str
    bytes: int


class WantedFile(Record):
    """A file the script shall leave."""

    name: FileName
    limit: int = Field(gt=0)
    """Bytes of the largest honest one; a larger one is refused."""


class BuildJob(Record):
    """Run `script` beside `files` on the device and bring back `results`.

    The script's exit status follows datk's own: 0 well, 3 made and found wrong, 4 something is missing there, any
    other: not made.
    """

    device: Device
    runtime: Runtime
    """Must be there."""
    artifact: str
    """TARGET-PRECISION, for people."""
    files: tuple[SentFile, ...]
    script: FileName
    arguments: tuple[str, ...] = ()
    results: tuple[WantedFile, ...]
    answer: FileName
    """Which of the results is the script's own JSON; its `detail` says in words what happened."""
    salt: str = ""
    """The device's version of the runtime, as another one makes another file; and what --force sets: once more."""

    @cached_property
    def key(self) -> str:
        """sha256 over files, script, device and configuration: the idempotency key."""
        device = self.device.model_dump(
            mode="json", include={"name", "kind", "runtimes", "arch", "power_mode", "python", "simulated"}
        )
        return sha256_json(
            {
                "task": "build",
                "device": device,
                "runtime": self.runtime,
                "files": [[f.name, f.sha256] for f in self.files],
                "script": [self.script, *self.arguments],
                "results": [r.name for r in self.results],
                "agent": agent_sha256(),
                "salt": self.salt,
            }
        )

    @property
    def title(self) -> str:
        """For the table: what is built where."""
        return f"build {self.artifact} on {self.device.name}"

    @property
    def sent(self) -> list[tuple[Path, str]]:
        """(file on this host, its name in the job's folder on the device)."""
        return [(Path(f.path), f"{FOLDER}/{f.name}") for f in self.files]

    @property
    def sent_bytes(self) -> int:
        """Of the files."""
        return sum(f.bytes for f in self.files)

    @property
    def bytes_needed(self) -> int:
        """Bytes the job takes on the device: the files, twice as much for what is made of them, and 32 MB of room."""
        return 3 * self.sent_bytes + 32_000_000

    def fetched(self, answer: dict[str, Any]) -> list[tuple[str, str, int]]:
        """(name there, name here, bytes at most): what the script says it left, of what was asked for alone."""
        work = answer.get("work")
        outputs = work.get("outputs") if isinstance(work, dict) else None
        if answer.get("outcome") != "ok" or not isinstance(outputs, dict):
            return []
        return [(f"{FOLDER}/{r.name}", r.name, r.limit) for r in self.results if r.name in outputs]

    def for_device(self) -> dict[str, Any]:
        """job.json as the agent reads it."""
        return {
            "schema_version": 1,
            "task": "build",
            "job": self.key[:16],
            "deadline_s": self.device.limits.timeout_s,
            "folder": FOLDER,
            "script": self.script,
            "arguments": list(self.arguments),
            "files": [{"file": f"{FOLDER}/{f.name}", "sha256": f.sha256} for f in self.files],
            "results": [r.name for r in self.results],
        }


AnyJob = Job | BuildJob


def parse_job(text: str) -> AnyJob:
    """A job as the store keeps it."""
    if "script" in json.loads(text):
        return BuildJob.model_validate_json(text)
    return Job.model_validate_json(text)
