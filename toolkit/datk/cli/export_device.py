"""`datk export --device NAME`: after the export, the part of it that is built on the device itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datk.farm.inventory import Device
    from datk.pipeline.farm.engines import EngineRow
    from datk.pipeline.run import RunResult


@dataclass(frozen=True)
class There:
    """A device that has been asked."""

    device: Device
    runtimes: dict[str, str]


def check_device(name: str, inventory: Path | None, targets: Sequence[str], run_dir: Path, *, ask: bool) -> There:
    """Before anything is built. Raises UsageError or InventoryError (2), EnvironmentLacks or DeviceError (4)."""
    from datk.cli.console import say
    from datk.pipeline.farm import engines

    device = engines.the_device(name, targets, inventory)
    if not ask:
        say(f"then on {device.name}: build, bring back to {run_dir}/65-engine-ARTIFACT-{device.name}, judge here")
        return There(device, {})
    return There(device, engines.ask(device, targets))


def engines_of(result: RunResult, there: There, *, force: bool) -> list[EngineRow]:
    """Build on the device what this export made and did not reject, and write the report once more."""
    from datk.cli.console import say
    from datk.cli.farm_table import farm_terminal
    from datk.pipeline.farm.engines import build_engines
    from datk.pipeline.runs import EXPORT_PREFIX, Artifact
    from datk.report.build import build_report

    folders = [result.run_dir / n for n in result.manifests if n.startswith(EXPORT_PREFIX)]
    artifacts = [Artifact(f, result.manifests[f.name]) for f in folders]
    sound = [a for a in artifacts if a.id not in result.rejected]
    for artifact in artifacts:
        if artifact not in sound:
            say(f"{artifact.id}: rejected here, so nothing is built of it on {there.device.name}")
    with farm_terminal() as terminal:
        rows = build_engines(sound, there.device, there.runtimes, reporter=terminal, force=force)
    if any(row.folder for row in rows):
        build_report(result.run_dir)
    for row in rows:
        words = "; ".join(row.reasons) or _figures(row)
        say(f"{row.artifact} on {row.device}: {row.status}: {words}")
        for note in row.notes:
            say(note)
        if row.folder is not None:
            say(f"engine: {row.folder}")
    return rows


def raise_for(rows: Sequence[EngineRow]) -> None:
    """Raises GateFailed (3) for an engine that is wrong or not buildable, EnvironmentLacks (4) for one not made."""
    from datk.errors import EnvironmentLacks, GateFailed

    rejected = [r for r in rows if r.status == "rejected"]
    if rejected:
        lines = [f"  {r.artifact} on {r.device}: {reason}" for r in rejected for reason in r.reasons]
        raise GateFailed(
            f"{len(rejected)} engine(s) rejected\n" + "\n".join(lines),
            hint="what was built is kept, marked rejected, in 65-engine-; another precision or TensorRT may pass",
        )
    absent = [r for r in rows if r.status == "not measured" and r.folder is None and not r.simulated]
    if absent:
        raise EnvironmentLacks(
            "not built on the device\n"
            + "\n".join(f"  {r.artifact} on {r.device}: {'; '.join(r.reasons)}" for r in absent),
            hint="the same command tries again, the export itself is kept; `datk farm logs JOB` tells the story",
        )


def _figures(row: EngineRow) -> str:
    """What is worth a line."""
    worst, p50 = row.metrics["correlation_vs_float_worst"], row.metrics["latency_p50_ms"]
    parts = []
    if worst.value is not None:
        parts.append(f"least correlation {worst.value:.6f} over {worst.n} golden photographs")
    parts.append(f"p50 {p50.value:.2f} ms" if p50.value is not None else f"p50 not measured: {p50.not_measured}")
    return ", ".join(parts)
