"""Promote by verdict, or against it by name: what a run stands behind, target by target."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from datk.artifact.promotion import Override, Promoted, add_override, read_overrides, write_promoted
from datk.depth.io_spec import Size
from datk.errors import GateFailed, UsageError
from datk.evaluate.target_verdict import STAGE_PREFIX, PrecisionVerdict, TargetVerdict, read_verdict
from datk.pipeline.execute import locked


def verdicts_of(run_dir: Path) -> list[TargetVerdict]:
    """Every verdict of a run, by target and size. Raises DataError for a damaged one."""
    folders = sorted(p for p in run_dir.glob(f"{STAGE_PREFIX}*") if (p / "manifest.json").is_file())
    return [read_verdict(folder) for folder in folders]


def promoted_by(verdicts: list[TargetVerdict], overrides: list[Override]) -> list[Promoted]:
    """What the verdicts ship, unless the last override of that target and size is about the very artifact there now."""
    return [_promoted(verdict, overrides) for verdict in verdicts]


def refresh(run_dir: Path) -> list[Promoted]:
    """Write promoted.json from the run's verdicts and overrides; nothing when there is no verdict."""
    verdicts = verdicts_of(run_dir)
    targets = promoted_by(verdicts, read_overrides(run_dir))
    if verdicts:
        write_promoted(run_dir, targets)
    return targets


def promote(
    run_dir: Path, target: str, precision: str, *, size: Size | None, force: bool, who: str | None, why: str | None
) -> Promoted:
    """Promote one precision and record who decided so where that is not what stands already.

    What the verdict does not ship needs force, and every change needs who and why. Raises UsageError for an unknown
    target, size or precision or where these are missing, GateFailed where the verdict says otherwise and force is not
    given.
    """
    if not run_dir.is_dir():
        raise UsageError(f"{run_dir}: no such run folder", hint="make one with `datk run RECIPE`")
    with locked(run_dir):
        verdict = _verdict(run_dir, target, size)
        row = verdict.row(precision)
        if row is None:
            known = ", ".join(r.precision for r in verdict.rows)
            raise UsageError(f"{target} has no {precision} in this run", hint=f"it has: {known}")
        overrides = read_overrides(run_dir)
        now = _promoted(verdict, overrides)
        if (now.precision, now.sha256) != (precision, row.sha256):
            _allowed(verdict, row, force=force, who=who, why=why)
            add_override(run_dir, _override(verdict, row, overrides, who=str(who), why=str(why)))
        return next(p for p in refresh(run_dir) if (p.target, p.input_size) == (verdict.target, verdict.input_size))


def _allowed(verdict: TargetVerdict, row: PrecisionVerdict, *, force: bool, who: str | None, why: str | None) -> None:
    if row.precision != verdict.ship and not force:
        raise GateFailed(
            f"not promoted: {verdict.headline}",
            hint='to override it: --force --who NAME --why "REASON"; both are kept with the run',
        )
    missing = [flag for flag, text in (("--who", who), ("--why", why)) if not (text or "").strip()]
    if missing:
        raise UsageError(
            f"{' and '.join(missing)} missing: whoever changes what is promoted is kept with the run",
            hint=f'datk promote RUN {verdict.target} {row.precision} --force --who NAME --why "REASON"',
        )


def _verdict(run_dir: Path, target: str, size: Size | None) -> TargetVerdict:
    found = [v for v in verdicts_of(run_dir) if v.target == target]
    if not found:
        known = ", ".join(dict.fromkeys(v.target for v in verdicts_of(run_dir)))
        raise UsageError(
            f"{run_dir} has no verdict for '{target}'",
            hint=f"it has: {known}" if known else "`datk run RECIPE` writes them",
        )
    if size is None and len(found) == 1:
        return found[0]
    match = [v for v in found if v.input_size == size]
    if not match:
        sizes = ", ".join(f"{v.input_size[0]}x{v.input_size[1]}" for v in found)
        raise UsageError(f"{target} has the sizes {sizes} in this run", hint="name one: --input-size HxW")
    return match[0]


def _override(
    verdict: TargetVerdict, row: PrecisionVerdict, overrides: list[Override], *, who: str, why: str
) -> Override:
    return Override(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        target=verdict.target,
        input_size=verdict.input_size,
        precision=row.precision,
        artifact=row.artifact,
        sha256=row.sha256,
        gates="passed" if row.passed else "unverified" if row.status == "unverified" else "rejected",
        by=who.strip(),
        why=why.strip(),
        instead_of=verdict.ship,
        verdict=verdict.headline,
        before=overrides[-1].digest if overrides else "",
    )


def _promoted(verdict: TargetVerdict, overrides: list[Override]) -> Promoted:
    place = (verdict.target, verdict.input_size)
    last = next((o for o in reversed(overrides) if (o.target, o.input_size) == place), None)
    row = verdict.row(last.precision) if last is not None else None
    if last is not None and row is not None and row.sha256 == last.sha256:
        by, why = (None, verdict.headline) if row.precision == verdict.ship else (last.by, last.why)
    else:
        row = verdict.row(verdict.ship) if verdict.ship is not None else None
        by, why = None, verdict.headline
    return Promoted(
        target=verdict.target,
        input_size=verdict.input_size,
        precision=row.precision if row else None,
        artifact=row.artifact if row else None,
        sha256=row.sha256 if row else None,
        by=by,
        why=why,
        verdict=verdict.headline,
    )
