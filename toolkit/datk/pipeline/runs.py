"""Run folders: where they are, which is the newest, what lies in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datk.artifact.manifest import Manifest, read_manifest
from datk.errors import DataError, UsageError

ROOT = Path("runs")
STUDENT = "30-student"
EXPORT_PREFIX = "50-export-"
PACK_PREFIX = "67-pack-"


@dataclass(frozen=True)
class Artifact:
    """One compiled artifact of a run."""

    folder: Path
    """50-export-TARGET-PRECISION."""
    manifest: Manifest

    @property
    def path(self) -> Path:
        """The file or package to ship."""
        return self.folder / str(self.manifest.facts["artifact"])

    @property
    def id(self) -> str:
        """TARGET-PRECISION, with the size where a run has several: jetson-fp16, or jetson-fp16-392x518."""
        return self.folder.name.removeprefix(EXPORT_PREFIX)

    @property
    def target(self) -> str:
        return str(self.manifest.facts["target"])

    @property
    def precision(self) -> str:
        return str(self.manifest.facts["precision"])


def newest_run(root: Path = ROOT) -> Path:
    """The run whose student is the newest. Raises UsageError with the command that makes one."""
    found: list[tuple[str, Path]] = []
    for folder in sorted(root.glob(f"*/{STUDENT}")):
        try:
            found.append((read_manifest(folder).created_at, folder.parent))
        except DataError:
            continue
    if not found:
        raise UsageError(
            f"no run with a student below ./{root}",
            hint="`datk distill --size small` makes one; or name weights: --checkpoint depth_anything_v2_vits.pth",
        )
    return max(found)[1]


def artifacts_of(run_dir: Path) -> list[Artifact]:
    """Every artifact built in a run, by name. Raises UsageError when there is none."""
    folders = [f for f in sorted(run_dir.glob(f"{EXPORT_PREFIX}*")) if (f / "manifest.json").is_file()]
    if not folders:
        raise UsageError(f"{run_dir} holds no artifact yet", hint="`datk export --target tflite` builds one")
    return [Artifact(f, read_manifest(f)) for f in folders]


def packs_of(run_dir: Path) -> list[Artifact]:
    """Every artifact of several sizes in a run, by name; those with too few sizes to pack are none."""
    folders = [f for f in sorted(run_dir.glob(f"{PACK_PREFIX}*")) if (f / "manifest.json").is_file()]
    return [a for a in (Artifact(f, read_manifest(f)) for f in folders) if "artifact" in a.manifest.facts]


def run_of(path: Path) -> Path | None:
    """The run folder an artifact lies in, or None when it lies elsewhere."""
    for parent in path.resolve().parents:
        if (parent / STUDENT / "manifest.json").is_file():
            return parent
    return None
