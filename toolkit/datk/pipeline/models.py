"""Any artifact or checkpoint as a Runner."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from datk import targets
from datk.artifact.manifest import FILE_NAME, read_manifest
from datk.artifact.promotion import read_promoted
from datk.depth.io_spec import Contract, Size
from datk.depth.runner import Runner
from datk.errors import DataError, UsageError
from datk.evaluate.predictions import is_predictions, open_predictions
from datk.models.outside import is_outside
from datk.pipeline.several_buckets import BucketRunner, open_packed
from datk.pipeline.steps import weights
from datk.targets.base import Target

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin")


def open_model(
    path: Path,
    input_size: Size | None = None,
    *,
    kind: str | None = None,
    max_depth_m: float | None = None,
    for_latency: bool = False,
    all_buckets: bool = False,
    short_side: int | None = None,
) -> Runner:
    """A Runner for an artifact, an export folder, a checkpoint, a model from elsewhere, or maps computed elsewhere.

    A checkpoint without input_size runs at the size it was trained at where the file tells (datk's own),
    else by the official rule: short side at least 518, aspect kept. short_side: that rule with another side.
    all_buckets: of an export of several sizes open them all, as one runner (a BucketRunner); input_size names one.
    Raises UsageError, DataError, CheckpointError or EnvironmentLacks.
    """
    if is_predictions(str(path)):
        if input_size is not None or short_side is not None:
            raise UsageError(f"{path}: maps computed elsewhere have the size they have", hint="drop --input-size")
        return open_predictions(str(path))
    if is_outside(str(path)):
        if short_side is not None:
            raise UsageError(f"{path}: a model from elsewhere has its own rule", hint="--input-size HxW is a bucket")
        return _open_outside(str(path), input_size)
    if not path.exists():
        raise UsageError(f"{path}: no such model", hint="name an artifact, an export folder or a checkpoint")
    artifact, target = find_artifact(path)
    if target is None:
        return _open_checkpoint(artifact, input_size, kind, max_depth_m, short_side)
    contract = read_contract(artifact)
    target.require()
    if contract.packed_sizes:
        if all_buckets and input_size is None:
            return open_packed(target, artifact, contract)
        if input_size in contract.packed_sizes:
            contract = contract.at(input_size)
    elif all_buckets and contract.buckets:
        artifacts = bucket_artifacts(artifact, contract)
        if input_size is None:
            return BucketRunner(list(artifacts), contract, lambda size: open_model(artifacts[size]))
        if input_size in artifacts:
            return open_model(artifacts[input_size], input_size)
    if short_side is not None or (input_size is not None and input_size != contract.input_size):
        taken = " and ".join(f"{h}x{w}" for h, w in contract.packed_sizes or (contract.input_size,))
        raise UsageError(f"{artifact.name} takes {taken} only", hint="drop --input-size")
    return target.open_for_latency(artifact, contract) if for_latency else target.open(artifact, contract)


def find_artifact(path: Path) -> tuple[Path, Target | None]:
    """(file or package, its target); target None for a checkpoint.

    path: an export folder (its manifest names the artifact), an artifact, or a checkpoint.
    """
    if is_outside(str(path)) or is_predictions(str(path)):
        return path, None
    if path.is_dir() and (path / FILE_NAME).is_file():
        facts = read_manifest(path).facts
        if "artifact" in facts:
            return path / facts["artifact"], targets.get(facts["target"])
        for suffix in CHECKPOINT_SUFFIXES:
            for found in sorted(path.glob(f"*{suffix}")):
                return found, None
    if path.is_file() and path.suffix in CHECKPOINT_SUFFIXES:
        return path, None
    if (path.parent / FILE_NAME).is_file():
        facts = read_manifest(path.parent).facts
        if facts.get("artifact") == path.name:
            return path, targets.get(facts["target"])
    for target in targets.available().values():
        if path.suffix == target.suffix:
            return path, target
    known = sorted({t.suffix for t in targets.available().values()} | set(CHECKPOINT_SUFFIXES))
    raise UsageError(f"{path}: neither an artifact nor a checkpoint", hint=f"known endings: {' '.join(known)}")


def promoted_artifact(run_dir: Path, target: str, size: Size | None = None) -> Path:
    """Export folder of what a run stands behind of a target, of several sizes the first. Raises UsageError for none."""
    of_target = [p for p in read_promoted(run_dir) if p.target == target]
    found = [p for p in of_target if size is None or p.input_size == size]
    if not found:
        known = ", ".join(f"{p.target} {p.input_size[0]}x{p.input_size[1]}" for p in read_promoted(run_dir))
        raise UsageError(
            f"{run_dir} promotes nothing for '{target}'" + (f" at {size[0]}x{size[1]}" if size else ""),
            hint=f"it has: {known}" if known else f"`datk promote {run_dir}` shows what it stands behind",
        )
    if found[0].artifact is None:
        raise UsageError(f"{run_dir} promotes nothing for '{target}': {found[0].why}", hint="name an artifact: --model")
    return run_dir / found[0].artifact


def bucket_artifacts(artifact: Path, contract: Contract) -> dict[Size, Path]:
    """Artifact of every bucket of an export, by size. Raises DataError naming a folder that is not there."""
    found = {}
    for bucket in contract.buckets:
        folder = artifact.parent / bucket.folder
        path = folder / str(contract.artifact)
        if not path.exists():
            h, w = bucket.input_size
            raise DataError(
                f"{path}: the artifact for {h}x{w} is not there",
                hint=f"keep the export's folders side by side, or name one size: --input-size {h}x{w}",
            )
        found[bucket.input_size] = path
    return found


def read_contract(artifact: Path) -> Contract:
    """contract.json beside an artifact. Raises DataError when absent or damaged."""
    path = artifact.parent / "contract.json"
    try:
        return Contract.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{path}: no contract beside {artifact.name}", hint="keep contract.json with it") from error
    except (ValueError, ValidationError) as error:
        raise DataError(f"{path}: not a contract: {error}") from error


def _open_outside(spec: str, input_size: Size | None) -> Runner:
    """A teacher from elsewhere as a Runner; without input_size photographs keep their own, as it likes them."""
    from datk.config.train_sections import PseudoLabelSection
    from datk.depth.teacher import TeacherRunner
    from datk.pipeline.teachers import open_teacher

    size = input_size or (518, 518)
    teacher = open_teacher(spec, PseudoLabelSection(), device="cpu", precision="fp32")
    return TeacherRunner(teacher, size, name=Path(spec.partition(":")[2]).name)


def _open_checkpoint(
    path: Path, input_size: Size | None, kind: str | None, max_depth_m: float | None, short_side: int | None
) -> Runner:
    from datk.depth.preprocess import parse_size
    from datk.evaluate.torch_runner import OfficialRunner, TorchRunner

    checkpoint = weights.read(path, kind, max_depth_m)
    if short_side is not None:
        return OfficialRunner(checkpoint.net, name=path.name, short_side=short_side)
    trained = checkpoint.metadata.get(weights.TRAINED_SIZE)
    size = input_size or (parse_size(trained) if trained else None)
    if size is None:
        return OfficialRunner(checkpoint.net, name=path.name)
    return TorchRunner(checkpoint.net, size, name=path.name)
