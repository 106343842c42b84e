"""`datk verify`: an export folder against what it says of itself. Imports no torch: app teams have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from datk import targets
from datk.artifact.manifest import FILE_NAME, Manifest, read_manifest
from datk.artifact.promotion import PROMOTED, read_promoted
from datk.artifact.signature import check_signature
from datk.artifact.verify import CONTRACT, Check, Lacks, NotAnExport, verify
from datk.depth.io_spec import Contract
from datk.depth.runner import Runner
from datk.errors import DataError, EnvironmentLacks, TargetError, UsageError
from datk.pipeline.several_buckets import open_packed
from datk.targets.base import Target


def verify_export(folder: Path, *, run: bool = True, public_key: Path | None = None) -> list[Check]:
    """Every check of one export folder: files, contract, golden results, manifest, signature.

    run: also feed the golden inputs to the artifact, in its target's own runner. Raises UsageError when folder is no
    export; a runtime that is missing here is a check that is not_measured. public_key: PEM file of the signer.
    """
    opened: list[Runner] = []
    try:
        checks = verify(folder, _opener(folder, opened) if run else None)
    except NotAnExport as error:
        raise UsageError(str(error), hint="name a folder 50-export-... of a run") from error
    except Lacks as error:
        checks = [*verify(folder), Check("golden", "not_measured", str(error))]
    except TargetError as error:
        checks = [*verify(folder), Check("golden", "failed", error.message, _artifact_name(folder))]
    finally:
        for runner in opened:
            runner.close()
    return [*checks, *_manifest_checks(folder), *check_signature(folder, public_key)]


def _opener(folder: Path, opened: list[Runner]) -> Callable[[Path, dict[str, Any]], Callable[[Any], Any]]:
    """Open the artifact with datk's runner of its target, remembered in `opened` for closing."""

    def open_artifact(path: Path, value: dict[str, Any]) -> Callable[[Any], Any]:
        try:
            target, contract = target_of(folder, path), Contract.model_validate(value)
            packed = bool(contract.packed_sizes)
            runner = open_packed(target, path, contract) if packed else target.open(path, contract)
        except EnvironmentLacks as error:
            raise Lacks(f"{error.message}; {error.hint}" if error.hint else error.message) from error
        except ImportError as error:
            raise Lacks(f"cannot run here: {error}") from error
        except DataError as error:
            raise TargetError(error.message, hint=error.hint) from error
        opened.append(runner)

        def predict(image: Any) -> Any:
            return runner.predict(image)

        predict.runtime = getattr(runner, "runtime", None)  # type: ignore[attr-defined]
        return predict

    return open_artifact


def target_of(folder: Path, artifact: Path) -> Target:
    """The target that made an export: its manifest says so; without one the artifact's ending does."""
    if (folder / FILE_NAME).is_file():
        return targets.get(str(read_manifest(folder).facts["target"]))
    found = next((t for t in targets.available().values() if t.suffix == artifact.suffix), None)
    if found is None:
        raise UsageError(f"{artifact}: no target makes files ending in {artifact.suffix}")
    return found


def _manifest_checks(folder: Path) -> list[Check]:
    """The contract is one datk understands, the manifest agrees with it, and the export was not rejected."""
    found = []
    try:
        contract = Contract.model_validate_json((folder / CONTRACT).read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        line = str(error).splitlines()[0]
        return [Check("contract", "failed", f"not a contract of this datk: {line}", CONTRACT)]
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        if not (folder / FILE_NAME).exists():
            return [Check("manifest", "not_measured", "no manifest beside the artifact", FILE_NAME)]
        return [Check("manifest", "failed", error.message, FILE_NAME)]
    found += _agreement(manifest, contract)
    if manifest.verdict is not None and manifest.verdict.status == "rejected":
        found.append(Check("verdict", "failed", f"rejected: {'; '.join(manifest.verdict.reasons)}", FILE_NAME))
    if manifest.verdict is not None and manifest.verdict.status == "unverified":
        found.append(Check("verdict", "not_measured", f"unverified: {manifest.verdict.reasons[0]}", FILE_NAME))
    return [*found, *_promotion(folder, manifest)]


def _promotion(folder: Path, manifest: Manifest) -> list[Check]:
    """In a run with verdicts: whether this is the artifact it stands behind. Not being it is told, not a failure."""
    size = manifest.contract.input_size if manifest.contract is not None else None
    try:
        listed = read_promoted(folder.resolve().parent)
    except DataError as error:
        return [Check("promoted", "failed", error.message, PROMOTED)]
    if entries := manifest.facts.get("entries"):
        standing = {p.artifact for p in listed}
        other = [folder for folder in entries.values() if folder not in standing]
        if listed and not other:
            return [Check("promoted", "passed", "the run stands behind every size packed here", PROMOTED)]
        told = f"the run does not stand behind {', '.join(other)}"
        return [Check("promoted", "not_measured", told, PROMOTED)] if listed else []
    place = (manifest.facts.get("target"), size)
    mine = next((p for p in listed if (p.target, p.input_size) == place), None)
    if mine is None:
        return []
    digest = next((o.sha256 for o in manifest.outputs if o.path == manifest.facts.get("artifact")), None)
    if digest is not None and digest == mine.sha256:
        by = f"by {mine.by}: {mine.why}" if mine.by else f"by the verdict: {mine.verdict}"
        return [Check("promoted", "passed", by, PROMOTED)]
    return [
        Check("promoted", "not_measured", f"the run stands behind {mine.precision or 'nothing'}: {mine.why}", PROMOTED)
    ]


def _agreement(manifest: Manifest, contract: Contract) -> list[Check]:
    if manifest.contract != contract:
        return [Check("manifest", "failed", "its contract is not contract.json's", FILE_NAME)]
    tools = ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))
    return [Check("manifest", "passed", f"same contract; made by {tools}", FILE_NAME)]


def _artifact_name(folder: Path) -> str:
    return str(Contract.model_validate_json((folder / CONTRACT).read_text(encoding="utf-8")).artifact)
