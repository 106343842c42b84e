"""Stage 67: the sizes of an export that passed, as one artifact: an entry point each, equal weights stored once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datk.artifact import verify
from datk.artifact.files import size_bytes, write_json
from datk.artifact.manifest import Manifest, Metric, Verdict
from datk.depth.io_spec import Bucket, Contract, Size, entry_of
from datk.pipeline.ship.chain import chain_of_stages
from datk.pipeline.ship.kits import write_kits
from datk.pipeline.ship.notice import write_notice
from datk.pipeline.ship.sbom import write_sbom
from datk.pipeline.stage import Outcome, StageRun
from datk.targets.base import PackRequest, Target


@dataclass(frozen=True)
class Part:
    """One size of the export."""

    size: Size
    export: str
    validate: str


@dataclass(frozen=True)
class _Built:
    size: Size
    folder: Path
    manifest: Manifest

    @property
    def artifact(self) -> Path:
        return self.folder / str(self.manifest.facts["artifact"])

    @property
    def contract(self) -> Contract:
        assert self.manifest.contract is not None
        return self.manifest.contract


def run(target: Target, precision: str, parts: Sequence[Part], stage: StageRun) -> Outcome:
    """Pack what passed its gates; a size that did not is left out and named. Fewer than two leave nothing to pack.

    Every entry point is then asked for the golden photographs of its size: it must answer exactly as the artifact it
    was packed from, or the pack is rejected.
    """
    good, left_out = _sorted(parts, stage)
    facts: dict[str, Any] = {"target": target.name, "precision": precision, "left_out": left_out}
    if len(good) < 2:
        why = f"{len(good)} of {len(parts)} sizes passed; two are needed for one artifact of several sizes"
        stage.reporter.note(f"{target.name} {precision}: not packed: {why}")
        return Outcome(facts={**facts, "not_packed": why})
    if len({(b.contract.output.scale, b.contract.output.zero_point) for b in good}) > 1:
        why = "each size has int8 steps of its own at its output, one contract tells one: ship them as they are"
        stage.reporter.note(f"{target.name} {precision}: not packed: {why}")
        return Outcome(facts={**facts, "not_packed": why})
    contract = good[0].contract.model_copy(
        update={"buckets": tuple(Bucket(input_size=b.size, folder=".", entry=entry_of(b.size)) for b in good)}
    )
    weights = list({w.sha256: w for b in good for w in b.manifest.weights}.values())  # learnt size by size
    artifact: Path = target.load(str(target.pack))(
        PackRequest(
            parts={entry_of(b.size): b.artifact for b in good},
            contract=contract,
            metadata={
                "weights_sha256": ", ".join(w.sha256 for w in weights),
                "weights_licence": ", ".join(dict.fromkeys(w.licence for w in weights)),
            },
            out=stage.out,
        )
    )
    contract = contract.model_copy(update={"artifact": artifact.relative_to(stage.out).as_posix()})
    write_json(stage.out / verify.CONTRACT, contract.model_dump(mode="json"))
    chain = chain_of_stages(stage.folder("30-student").parent, _made_from(good))
    write_notice(stage.out, chain, contract, tools=("torch", *target.tools))
    _write_golden(stage.out, good)
    sbom = write_sbom(stage.out, contract, chain, tools=("torch", *target.tools))
    kits = write_kits(stage.out, contract)
    shutil.copyfile(verify.__file__, stage.out / "verify.py")
    checks = {"entry-points": _check_entries(target, artifact, contract, good), "sbom": sbom}
    failed = [f"{name}: {c['detail']}" for name, c in checks.items() if c["status"] == "failed"]
    alone, together = sum(size_bytes(b.artifact) for b in good), size_bytes(artifact)
    figures = f"{together / 1e6:.1f} MB ({alone / 1e6:.1f} MB apart)"
    stage.reporter.note(f"{target.name} {precision}: {len(good)} sizes in one artifact of {figures}")
    return Outcome(
        contract=contract,
        weights=weights,
        checks=checks,
        metrics={
            "size_bytes": Metric(value=together, unit="bytes", n=1, higher_is_better=False),
            "apart_bytes": Metric(value=alone, unit="bytes", n=len(good), higher_is_better=False),
        },
        facts={
            **facts,
            "artifact": contract.artifact,
            "entries": {entry_of(b.size): b.folder.name for b in good},
            "kits": kits,
            "licences": [asdict(link) | {"commercial_use": link.use} for link in chain],
        },
        verdict=Verdict(status="rejected" if failed else "passed", reasons=failed),
        failed_stage="pack" if failed else None,
    )


def _sorted(parts: Sequence[Part], stage: StageRun) -> tuple[list[_Built], dict[str, str]]:
    """(sizes that passed, size -> why it is not among them)."""
    good, left_out = [], {}
    for part in parts:
        name = f"{part.size[0]}x{part.size[1]}"
        if part.validate not in stage.needs:
            left_out[name] = "its compiler or its measurement failed"
            continue
        folder, built = stage.needs[part.export]
        verdict = stage.manifest(part.validate).verdict
        if verdict is None or verdict.status != "passed":
            left_out[name] = "not judged" if verdict is None else f"{verdict.status}: {'; '.join(verdict.reasons[:1])}"
            continue
        good.append(_Built(part.size, folder, built))
    return good, left_out


def _made_from(good: Sequence[_Built]) -> list[str]:
    """Stages the packed exports were made from: weights and, of int8, what quantised them."""
    return list(dict.fromkeys(i.path for b in good for i in b.manifest.inputs if (b.folder.parent / i.path).is_dir()))


def _write_golden(out: Path, good: Sequence[_Built]) -> None:
    """golden/ of every size below golden/HxW, under one list; the first size's values stand for the whole."""
    base = Path(verify.GOLDEN).parent
    images: list[dict[str, Any]] = []
    whole: dict[str, Any] = {}
    for built in good:
        name = f"{built.size[0]}x{built.size[1]}"
        golden = json.loads((built.folder / verify.GOLDEN).read_text(encoding="utf-8"))
        whole = whole or golden
        (out / base / name).mkdir(parents=True, exist_ok=True)
        for image in golden["images"]:
            entry = dict(image) | {"name": f"{name}/{image['name']}", "input_size": list(built.size)}
            for what in ("photo", "input", "float", "artifact"):
                if image[what] is not None:
                    entry[what] = (base / name / Path(image[what]).name).as_posix()
                    shutil.copyfile(built.folder / image[what], out / entry[what])
            images.append(entry)
    write_json(out / verify.GOLDEN, {**whole, "images": images})


def _check_entries(target: Target, artifact: Path, contract: Contract, good: Sequence[_Built]) -> dict[str, Any]:
    """Every entry point against the artifact it was packed from, on the golden inputs of its size: the same numbers."""
    differing = {}
    asked = 0
    for built in good:
        golden = json.loads((built.folder / verify.GOLDEN).read_text(encoding="utf-8"))
        pictures = [verify.read_ppm(built.folder / image["input"]) for image in golden["images"]]
        alone, entry = target.open(built.artifact, built.contract), target.open(artifact, contract.at(built.size))
        try:
            off = max(float(np.abs(alone.predict(p) - entry.predict(p)).max()) for p in pictures)
        finally:
            alone.close()
            entry.close()
        asked += len(pictures)
        if off != 0:  # nan as well
            differing[entry_of(built.size)] = off
    detail = f"{len(good)} entry points answer exactly as the artifacts they were packed from, on {asked} pictures"
    if differing:
        told = ", ".join(f"{name} by {off:.3g}" for name, off in differing.items())
        detail = f"entry points that do not answer as the artifact they were packed from: {told}"
    return {"status": "failed" if differing else "passed", "detail": detail, "pictures": asked}
