"""Several models on one benchmark in one call: figures, differences from a reference, gates, and the kept record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datk.artifact.files import write_json
from datk.evaluate.benchmarks.dense import DenseResult
from datk.evaluate.benchmarks.pairs import BenchResult
from datk.evaluate.benchmarks.task import BenchTask, TaskRequest
from datk.evaluate.comparison import Difference, compare, headline
from datk.evaluate.gate_rules import FLOAT, GateRule, judge_rule
from datk.evaluate.gates import GateResult
from datk.pipeline.error_maps import with_error_maps
from datk.pipeline.judging import Contender, Result, Scored, judge
from datk.report.ci import JudgedModel
from datk.report.judged_file import JudgedFile, JudgedRow

Progress = Callable[[int, int, str], None]
SHOWN = 5
"""Names of a kind of problem that are spelled out; all are in --json and in the kept record."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A model beside the others."""

    scored: Scored
    difference: Difference | None
    """From the reference; None for the reference itself."""
    gates: tuple[GateResult, ...]

    @property
    def result(self) -> Result:
        return self.scored.result


def score_all(
    contenders: Sequence[Contender],
    request: TaskRequest,
    task: BenchTask,
    *,
    jobs: int,
    cache: Path | None,
    progress: Progress,
) -> list[Scored]:
    """Score every model, one after the other."""
    return [judge(c, request, task, jobs=jobs, cache=cache, progress=progress) for c in contenders]


def compare_all(
    scored: Sequence[Scored],
    rules: Sequence[GateRule],
    *,
    floats: Sequence[Scored | None] | None = None,
    versus: str | None = None,
) -> list[Compared]:
    """Every model against its float net where it has one, else against the model named `versus`, else the first.

    floats: for each model its float net's result, or None. Raises UsageError for a rule that names nobody.
    """
    by_name: dict[str, Result] = {s.contender.name: s.result for s in scored}
    out = []
    for number, item in enumerate(scored):
        own = floats[number] if floats else None
        others = dict(by_name)
        if own is not None:
            others[FLOAT] = own.result
        chosen = versus or (FLOAT if own is not None else scored[0].contender.name)
        reference = others.get(chosen)
        difference = None if reference is None or reference is item.result else compare(item.result, reference)
        gates = [judge_rule(rule, item.result, others) for rule in rules]
        out.append(Compared(scored=item, difference=difference, gates=tuple(g for g in gates if g is not None)))
    return out


def told(items: Sequence[Compared], not_run: Mapping[str, str] | None = None) -> list[JudgedModel]:
    """The same in words, for tables, JUnit and Markdown. not_run: name -> why this machine cannot run that model."""
    models = _told(items)
    columns = [column for column, _ in models[0].figures] if models else []
    return models + [
        JudgedModel(
            name=name,
            judged_by="nobody",
            figures=tuple((column, "not measured") for column in columns),
            denominator="nothing",
            versus="",
            gates=(GateResult(name="run here", status="not_measured", detail=f"not measured: {reason}"),),
        )
        for name, reason in (not_run or {}).items()
    ]


def _told(items: Sequence[Compared]) -> list[JudgedModel]:
    return [
        JudgedModel(
            name=item.scored.contender.name,
            judged_by=item.scored.who.label,
            figures=tuple(figures_of(item.result)),
            denominator=denominator_of(item.result),
            versus=item.difference.words if item.difference else "",
            gates=item.gates,
            problems=tuple(problems_of(item.result)),
        )
        for item in items
    ]


def figures_of(result: Result) -> list[tuple[str, str]]:
    """(column, text) of the figures shown for a result."""
    if isinstance(result, BenchResult):
        share = result.overall
        if share.accuracy is None:
            return [(f"{result.bench} %", "not scored")]
        text = f"{100 * share.accuracy:.2f} [{100 * share.low:.2f}, {100 * share.high:.2f}]"
        return [(f"{result.bench} %", text), ("of all annotated %", f"{100 * result.accuracy_of_annotated:.2f}")]
    rows = []
    for variant, figures in result.figures.items():
        prefix = "" if variant == next(iter(result.figures)) else f"{variant} "
        wanted = figures if len(figures) < 3 else ("abs_rel", "delta1", "rmse", "boundary_f1")
        shown = {name: figures[name] for name in wanted if name in figures}
        rows += [(f"{prefix}{name}", f"{value:.4g}") for name, value in shown.items()]
    return rows


def denominator_of(result: Result) -> str:
    """What the figures are over, in words."""
    if isinstance(result, DenseResult):
        return result.denominator
    lost = [
        f"{count} {what}"
        for count, what in (
            (len(result.missing_images), "images missing"),
            (len(result.unreadable_images), "unreadable"),
            (len(result.points_outside), "points outside"),
        )
        if count
    ]
    text = f"{result.overall.n:,} of {result.n_annotated_pairs:,} pairs on {result.n_images:,} images"
    return text + (f" ({', '.join(lost)})" if lost else "")


def problems_of(result: Result) -> list[str]:
    """Everything that was not as it should be, by name."""
    if isinstance(result, DenseResult):
        kinds = {
            "not scored": [f"{k}: {v}" for k, v in result.not_scored.items()],
            "prediction FAILED": [f"{k}: {v}" for k, v in result.failed.items()],
            "suspicious": [f"{k}: {v}" for k, v in result.warnings.items()],
        }
    else:
        odd: dict[str, list[str]] = {}
        for path, what in result.odd_images.items():
            odd.setdefault(what, []).append(path)
        kinds = {
            "missing": list(result.missing_images),
            "unreadable": [f"{k}: {v}" for k, v in result.unreadable_images.items()],
            "outside": list(result.points_outside),
            **{f"scored, but {what}": paths for what, paths in odd.items()},
        }
    lines = []
    for kind, names in kinds.items():
        if names:
            more = f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"{kind}: " + "; ".join(names[:SHOWN]) + more)
    return lines


def record(
    items: Sequence[Compared], request: TaskRequest, reference: str | None, not_run: Mapping[str, str] | None = None
) -> JudgedFile:
    """What is kept of a call: all figures and per-image answers, for `datk report`. not_run: as `told` takes it."""
    rows = []
    for item in items:
        result = item.result
        pairs = isinstance(result, BenchResult)
        rows.append(
            JudgedRow(
                name=item.scored.contender.name,
                judged_by=item.scored.who.label,
                size=_size(item.scored.contender),
                metric=headline(result),
                pairs=result if isinstance(result, BenchResult) else None,
                dense=None if pairs else result if isinstance(result, DenseResult) else None,
                versus=item.difference,
                words=item.difference.words if item.difference else "",
                gates=item.gates,
                denominator=denominator_of(result),
                problems=tuple(problems_of(result)),
            )
        )
    return JudgedFile(
        bench=items[0].result.bench,
        protocol=items[0].result.protocol,
        notes=(
            *items[0].result.notes,
            *(f"{name}: not measured: {reason}" for name, reason in (not_run or {}).items()),
        ),
        data=str(request.data) if request.data else None,
        reference=reference,
        rows=tuple(rows),
    )


def keep(
    path: Path,
    items: Sequence[Compared],
    request: TaskRequest,
    reference: str | None,
    not_run: Mapping[str, str] | None = None,
) -> None:
    """Write the record of a call, atomically: first every figure, then again with error maps where there are some."""
    judged = record(items, request, reference, not_run)
    write_json(path, judged.model_dump(mode="json"))
    drawn = with_error_maps(judged, [item.scored.contender for item in items], request)
    if drawn.error_maps:
        write_json(path, drawn.model_dump(mode="json"))


def as_json(item: Compared) -> dict[str, Any]:
    """For --json."""
    result = item.result
    drop = {"images", "outcomes"}
    return {
        "name": item.scored.contender.name,
        "judged_by": item.scored.who.label,
        "kept_from_before": item.scored.n_kept,
        "scored": denominator_of(result),
        "result": result.model_dump(mode="json", exclude=drop),
        "versus": item.difference.model_dump(mode="json") | {"words": item.difference.words}
        if item.difference
        else None,
        "gates": [g.model_dump(mode="json") for g in item.gates],
        "problems": problems_of(result),
    }


def _size(contender: Contender) -> str | None:
    if contender.short_side:
        return str(contender.short_side)
    return "x".join(map(str, contender.size)) if contender.size else None
