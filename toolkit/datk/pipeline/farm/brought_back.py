"""Engines that `datk export --device` built on a device and brought back: what the farm sends there from then on."""

from __future__ import annotations

from pathlib import Path

from datk.artifact.files import sha256_file
from datk.artifact.manifest import FILE_NAME, read_manifest
from datk.errors import DataError
from datk.farm.inventory import Device
from datk.pipeline.farm.engine_stage import PREFIX
from datk.pipeline.runs import Artifact


def sent_file(artifact: Artifact, device: Device) -> Path:
    """What that device is sent to run: the engine it built of this export, else the export's own file or package."""
    return engine_of(artifact, device) or artifact.path


def engine_of(artifact: Artifact, device: Device) -> Path | None:
    """The engine built on that device of the export as it lies there now; None when there is none.

    Raises DataError when the engine is not the file its manifest tells of.
    """
    folder = artifact.folder.parent / f"{PREFIX}{artifact.id}-{device.name}"
    if not (folder / FILE_NAME).is_file():
        return None
    manifest = read_manifest(folder)
    if [i.sha256 for i in manifest.inputs] != [sha256_file(artifact.folder / FILE_NAME)]:
        return None  # of an earlier export
    if not manifest.facts.get("runs_instead", True):
        return None
    path = folder / str(manifest.facts["artifact"])
    if sha256_file(path) != next((o.sha256 for o in manifest.outputs if o.path == path.name), None):
        raise DataError(
            f"{path}: is not the file its manifest tells of",
            hint=f"`datk export --target {artifact.target} --device {device.name} --force` builds it again",
        )
    return path
