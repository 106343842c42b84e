"""One labelling job: what it labels, how, and where its files lie. Everything that changes a byte is in its key.

OUT/job.json              the job: teacher, source, settings, what is kept out; written once, by whoever is first
OUT/claims/000012.0       who is at work on a shard (gone when the job is finished)
OUT/shards/000012.json    a finished shard's manifest: its presence is what finished means
OUT/shards/000012-1f2e3d4c5b6a7980.tar   its labels, named by their content
OUT/index.json            the whole, when every shard is finished
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from datk.artifact.files import sha256_json, write_json
from datk.artifact.provenance import tool_versions
from datk.config.train_sections import PseudoLabelSection
from datk.depth.teacher import Teacher
from datk.errors import DataError
from datk.train.labelling.claims import link_once
from datk.train.labelling.encoding import error_bound
from datk.train.labelling.keep_out import KeepOut

SCHEMA = 1
TOOLS = ("torch", "numpy", "opencv-python-headless")
"""Distributions whose version may change a label's bytes."""


class Images(Protocol):
    """What labelling needs of datk.data.sources.ImageSource."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def key(self, index: int) -> str: ...

    def encoded(self, index: int) -> bytes: ...


@dataclass(frozen=True)
class Job:
    """A job as its folder describes it."""

    out: Path
    record: dict[str, Any]
    keep_out: KeepOut

    @property
    def key(self) -> str:
        return str(self.record["key"])

    @property
    def count(self) -> int:
        """Images in the source."""
        return int(self.record["images"]["count"])

    @property
    def section(self) -> PseudoLabelSection:
        return PseudoLabelSection.model_validate_json(json.dumps(self.record["section"]))

    @property
    def shards(self) -> int:
        return -(-self.count // self.section.shard_size)

    @property
    def claims(self) -> Path:
        return self.out / "claims"

    def numbers(self, shard: int) -> range:
        """Numbers of a shard's images."""
        size = self.section.shard_size
        return range(shard * size, min(self.count, (shard + 1) * size))

    def manifest(self, shard: int) -> Path:
        return self.out / "shards" / f"{shard:06d}.json"

    def finished(self) -> set[int]:
        """Shards whose manifest is there."""
        names = [path.name for path in (self.out / "shards").iterdir()]
        return {int(n.removesuffix(".json")) for n in names if n.endswith(".json") and n[0] != "."}

    @property
    def is_done(self) -> bool:
        return (self.out / "index.json").is_file()


def describe(teacher: Teacher, images: Images, section: PseudoLabelSection, keep_out: KeepOut) -> dict[str, Any]:
    """job.json's content. Raises DataError for a source without images or with two of one key."""
    if len(images) == 0:
        raise DataError(f"{images.name}: no images to label", hint="name a folder, list or archive with --images")
    settings = section.model_dump(mode="json")
    identity: dict[str, Any] = {
        "schema_version": SCHEMA,
        "teacher": {"digest": teacher.digest, "depth_kind": str(teacher.depth_kind), **teacher.identity},
        "images": {"count": len(images), "keys_sha256": keys_digest(images)},
        "section": settings,
        "keep_out_sha256": keep_out.digest,
        "arithmetic": {
            "device": teacher.device,
            "precision": teacher.precision,
            "threads": section.threads if teacher.device == "cpu" else None,
        },
        "tools": tool_versions(TOOLS),
    }
    return {
        **identity,
        "key": sha256_json(identity),
        "source": images.name,
        "teacher": {
            **identity["teacher"],
            "name": teacher.name,
            "source": teacher.source,
            "licence": teacher.licence,
            "notes": list(teacher.notes),
        },
        "encoding": {
            "format": section.format,
            "meaning": "disparity, larger is nearer: shift + scale * code / levels, per image",
            "max_error_rel_bound": error_bound(section.format),
        },
        "keep_out": keep_out.as_json(),
    }


def create_job(out: Path, record: dict[str, Any]) -> Job:
    """Make the job's folder, or join the same job begun before.

    Raises DataError when the folder holds another job: another teacher, source, setting, arithmetic or tool version.
    """
    path = out / "job.json"
    (out / "shards").mkdir(parents=True, exist_ok=True)
    if not path.exists():
        mine = out / f".job.{os.getpid()}.{os.urandom(4).hex()}"
        write_json(mine, record)
        link_once(mine, path)
        mine.unlink()
    job = open_job(out)
    if job.key != record["key"]:
        raise DataError(
            f"{path}: another labelling job lies here; {_difference(job.record, record)}",
            hint="name another folder with --out, or repeat that job's line",
        )
    if not job.is_done:
        job.claims.mkdir(exist_ok=True)
    return job


def open_job(out: Path) -> Job:
    """The job of a folder. Raises DataError when there is none, or it is damaged or of another schema."""
    path = out / "job.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        keep_out = KeepOut.from_json(record["keep_out"])
        version = record["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no pseudo-labels here ({error})", hint="make some: datk pseudo-label") from error
    if version != SCHEMA:
        raise DataError(f"{path}: schema_version {version}, this datk reads {SCHEMA}", hint="label again")
    return Job(out, record, keep_out)


def keys_digest(images: Images) -> str:
    """sha256 over all keys in order. Raises DataError when two images have one key."""
    digest = hashlib.sha256()
    seen: set[bytes] = set()
    for index in range(len(images)):
        key = images.key(index).encode()
        digest.update(key + b"\0")
        short = hashlib.blake2b(key, digest_size=12).digest()
        if short in seen:
            raise DataError(f"{images.name}: two images with the key {key.decode()}", hint="rename one of them")
        seen.add(short)
    return digest.hexdigest()


def _difference(there: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Which parts of the two jobs differ, in words."""
    found = []
    for part in ("teacher", "images", "section", "keep_out_sha256", "arithmetic", "tools"):
        one, other = there.get(part), wanted[part]
        if part == "teacher" and isinstance(one, dict):
            one, other = one.get("digest"), other["digest"]
        if one != other:
            keys = [k for k in other if one.get(k) != other[k]] if isinstance(one, dict) else []
            found.append(f"{part} ({', '.join(keys)})" if keys else part)
    return f"different: {', '.join(found) or 'its identity'}"
