"""Build one stage: into a hidden folder beside its own, its manifest last, then renamed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import datk
from datk.artifact.files import sha256_file, write_text
from datk.artifact.manifest import FILE_NAME, InputRef, Manifest, output_ref, write_manifest
from datk.artifact.provenance import datk_version, git_state, tool_versions
from datk.artifact.sums import write_sums
from datk.artifact.verify import SUMS
from datk.measure.device import host_info
from datk.pipeline.processes import call_others
from datk.pipeline.stage import Outcome, Reporter, Stage, StageRun

KEY_FILE = "key"


def build_stage(
    stage: Stage, folder: Path, before: Mapping[str, Manifest], *, seed: int, reporter: Reporter
) -> Manifest:
    """Run the stage and put its folder in place. before: the manifests of at least the stages it needs.

    What an interrupted attempt with the same key left is gone on from; any other is thrown away.
    """
    digests = {name: before[name].digest for name in stage.needs}
    key = stage.key(digests, seed)
    part = part_of(folder)
    if part.exists() and _read_key(part) != key:
        shutil.rmtree(part)
    part.mkdir(parents=True, exist_ok=True)
    write_text(part / KEY_FILE, key)
    start = time.perf_counter()
    call_others(stage, part)
    needs = {name: (folder.parent / name, before[name]) for name in stage.needs}
    outcome: Outcome = stage.run(StageRun(out=part, needs=needs, reporter=reporter, seed=seed))
    (part / KEY_FILE).unlink()
    manifest = Manifest(
        stage=stage.name,
        key=key,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=[InputRef(role=name, path=name, sha256=digests[name]) for name in stage.needs]
        + [InputRef(role=role, path=path, sha256=digest) for role, path, digest in stage.files],
        outputs=[output_ref(p, relative_to=part) for p in sorted(part.iterdir()) if p.name not in (FILE_NAME, SUMS)],
        recipe_sha256=sha256_file(folder.parent / "00-recipe.yaml"),
        section=stage.section,
        seed=seed,
        tools={"datk": datk_version(), **tool_versions(stage.tools)},
        git=git_state(Path(datk.__file__).parent),
        host=host_info(),
        duration_s=round(time.perf_counter() - start, 3),
        **{name: getattr(outcome, name) for name in outcome.__dataclass_fields__},
    )
    write_manifest(manifest, part)
    if stage.sealed:
        write_sums(part)
    put_in_place(part, folder)
    return manifest


def part_of(folder: Path) -> Path:
    """Where a stage works until it is complete."""
    return folder.with_name(f".{folder.name}.part")


def put_in_place(part: Path, folder: Path) -> None:
    """Rename a complete stage to its name; an older one of that name goes only after."""
    if not folder.exists():
        part.replace(folder)
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.replace(old)
    part.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def _read_key(part: Path) -> str | None:
    try:
        return (part / KEY_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return None
