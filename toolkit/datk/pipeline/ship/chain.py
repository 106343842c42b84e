"""The licence chain of an artifact: weights, teachers, labels, data, as the manifests of earlier stages tell it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from datk.artifact.files import sha256_file
from datk.artifact.licences import STATED, Link, blockers
from datk.artifact.manifest import FILE_NAME, Manifest, read_manifest
from datk.config.schema import Recipe
from datk.errors import GateFailed, UsageError
from datk.models.outside import is_outside

ROLES = {
    "05-synthetic": "synthetic data",
    "10-teacher": "teacher",
    "20-pseudo-labels": "photographs",
    "30-student": "weights",
    "35-calibration": "calibration photographs",
}
LEARNT = "38-qat-"
"""Stages of weights that learnt under a target's int8."""
NOT_NAMED = "unknown: the file names none; the published weights of its size are {licence}"


def chain_of_stages(run_dir: Path, stages: Sequence[str]) -> list[Link]:
    """Every link behind finished stages of a run, each once, nearest first. Raises DataError for a lost manifest."""
    links: dict[Link, None] = {}
    for name in _behind(run_dir, stages):
        links.update(dict.fromkeys(_links(name, read_manifest(run_dir / name))))
    return list(links)


def chain_of_recipe(recipe: Recipe, run_dir: Path) -> list[Link]:
    """The links that are known before anything runs: finished stages of the run, or the checkpoints named.

    Raises CheckpointError or DataError for weights that cannot be read.
    """
    given = recipe.checkpoints
    quantised = any(_quantises(p) for section in recipe.targets for p in _precisions(section.name, section.precisions))
    if given.student is None or Path(given.student).parent.parent == run_dir:
        before = ["30-student", *(["10-teacher"] if quantised else [])]
        return chain_of_stages(run_dir, [name for name in before if (run_dir / name / FILE_NAME).is_file()])
    links = [link_of_file("weights", Path(given.student))]
    if given.licence is not None:
        links = [replace(links[0], licence=stated(given.licence, links[0].licence))]
    if given.teacher is not None and quantised:
        links.append(_teacher_link(given.teacher))
    return links


def refuse_unless_commercial(chain: Sequence[Link]) -> None:
    """Raise GateFailed (exit 3) naming every link that forbids commercial use or says nothing of it, or for none."""
    if not chain:
        raise GateFailed(
            "--commercial: nothing is known of where these weights come from",
            hint="name a finished run with --run, or weights with --checkpoint",
        )
    lines = blockers(chain)
    if not lines:
        return
    hint = "Small is Apache-2.0; Base, Large and Giant are CC-BY-NC-4.0, and so is what they taught"
    if any(link.role == "weights" and link.use == "unknown" for link in chain):
        hint = "where you know the licence of your weights, state it: --weights-licence Apache-2.0"
    raise GateFailed("--commercial: the licence chain does not allow it\n  " + "\n  ".join(lines), hint=hint)


def link_of_file(role: str, path: Path) -> Link:
    """A checkpoint's link. A licence is known from the file's own metadata or from a published file's hash."""
    from datk.models.checkpoint_file import read_weights
    from datk.models.weights import licence_of_file

    metadata = read_weights(path).metadata
    licence = licence_of_file(path)
    if not metadata.get("licence"):
        return Link(role, path.name, _unless_published(sha256_file(path), licence), sha256_file(path))
    if not _names_its_licence(metadata.get("source_format", "datk")):  # a copy that a run kept of somebody's file
        licence = _unless_published(metadata.get("source_sha256", ""), licence)
    return Link(role, path.name, licence, sha256_file(path))


def stated(licence: str, found: str) -> str:
    """The licence of the user's weights in the user's own words. Raises UsageError where the file names another."""
    from datk.artifact.licences import commercial_use

    if commercial_use(found) == "refused":
        raise UsageError(f"--weights-licence {licence}: these weights are {found}", hint="drop --weights-licence")
    return f"{licence}{STATED}"


def _unless_published(sha256: str, licence: str) -> str:
    """The licence that goes with a size, kept where the hash is a published file's or where it is a refusal anyway."""
    from datk.artifact.licences import commercial_use
    from datk.models.published import PUBLISHED

    known = licence.endswith(STATED) or sha256 in {p.sha256 for p in PUBLISHED}
    if known or commercial_use(licence) == "refused":
        return licence
    return NOT_NAMED.format(licence=licence)


def _teacher_link(spec: str) -> Link:
    if not is_outside(spec):
        return link_of_file("teacher", Path(spec))
    from datk.models.outside import check_outside
    from datk.models.outside.folder import folder_licence

    folder, digest = check_outside(spec)
    return Link("teacher", spec, folder_licence(folder), digest)


def _links(name: str, manifest: Manifest) -> Iterator[Link]:
    role = "weights" if name.startswith(LEARNT) else ROLES.get(name, name)
    for weights in manifest.weights:
        licence = weights.licence
        if "format" in manifest.facts and not _names_its_licence(str(manifest.facts["format"])):
            licence = _unless_published(weights.sha256, licence)
        yield Link(role, weights.name, licence, weights.sha256)
    taught = manifest.facts.get("teacher_licence")
    if taught:
        yield Link("labels", str(manifest.facts.get("teacher", "taken")), str(taught))
    for data in manifest.datasets:
        data_role = role if role.endswith(("photographs", "data")) else f"data of the {role}"
        yield Link(data_role, data.name, data.licence, data.split_sha256)


def _names_its_licence(source_format: str) -> bool:
    """Whether weights of that format carry their licence: datk's own files do, and models from elsewhere."""
    return source_format.startswith("datk") or source_format in ("hf", "marigold")


def _behind(run_dir: Path, stages: Sequence[str]) -> list[str]:
    """The stages and all they were made from, nearest first, those that lie in the run."""
    order: list[str] = []
    waiting = list(stages)
    while waiting:
        name = waiting.pop(0)
        if name in order:
            continue
        order.append(name)
        inputs = [i.path for i in read_manifest(run_dir / name).inputs]
        waiting += [path for path in inputs if (run_dir / path / FILE_NAME).is_file()]
    return order


def _precisions(target: str, chosen: tuple[str, ...] | None) -> tuple[str, ...]:
    from datk import targets

    return chosen or targets.get(target).default_precisions


def _quantises(precision: str) -> bool:
    return precision not in ("fp32", "fp16")
