"""What run, distill and export share: run a recipe with a bar, print the summary, raise when rejected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.cli.console import print_json, print_table, reporter, say
from datk.cli.console import result as print_line
from datk.cli.launch import launched_together, processes
from datk.config.schema import Recipe
from datk.errors import GateFailed, TargetError
from datk.pipeline import run as pipeline
from datk.pipeline.execute import Planned, Selection
from datk.pipeline.processes import check_shares, together
from datk.pipeline.runs import ROOT

if TYPE_CHECKING:
    from datk.report.table import Cell, VerdictTable


def run_and_print(
    recipe: Recipe, out: Path | None, selection: Selection, *, dry_run: bool, json: bool, jobs: int | None = None
) -> None:
    """Run and print; jobs as pipeline.run takes it.

    Raises GateFailed (exit 3) when an artifact was rejected; it is kept all the same.
    Raises TargetError (exit 2) when a target could not build its own; what the others built is kept and reported.
    """
    run_dir = out or ROOT / recipe.name
    if dry_run:
        print_plan(pipeline.plan(recipe, run_dir, selection), run_dir, json=json)
        return
    if not launched_together():
        _run_and_print(recipe, run_dir, selection, json=json, jobs=jobs)
        return
    planned = pipeline.plan(recipe, run_dir, selection)
    check_shares([line.stage for line in planned if line.state == "run"], processes())
    with together(recipe, run_dir) as first:
        if first:
            _run_and_print(recipe, run_dir, selection, json=json, jobs=1)


def _run_and_print(recipe: Recipe, run_dir: Path, selection: Selection, *, json: bool, jobs: int | None) -> None:
    with reporter() as terminal:
        result = pipeline.run(recipe, run_dir, selection, reporter=terminal, jobs=jobs)
    print_result(result, json=json)


def print_result(result: pipeline.RunResult, *, json: bool, engines: Sequence[dict[str, Any]] | None = None) -> None:
    """Summary table, report path and, for what failed or was rejected, TargetError or GateFailed."""
    from datk.report.build import lint_lines, sentences, summary_table

    table = summary_table(result.run_dir)
    ship = sentences(result.run_dir)
    if json:
        print_json(
            {
                "run": str(result.run_dir),
                "report": {name: str(path) for name, path in result.report.items()},
                "artifacts": [
                    {"artifact": r.artifact, "judged_by": r.judged_by, "verdict": r.verdict, "reasons": r.reasons}
                    | {h: c.text for h, c in zip(table.headings, r.cells, strict=True)}
                    for r in table.rows
                ],
                "ship": ship,
                "op_lint": lint_lines(result.run_dir),
                "rejected": result.rejected,
                "unverified": result.unverified,
                "failed": result.failures,
            }
            | ({"engines": list(engines)} if engines else {})
        )
    else:
        print_verdicts(table)
        print_sentences(ship)
        for line in lint_lines(result.run_dir):
            say(line)
        for name, reasons in result.unverified.items():
            say(f"{name}: unverified, so not promoted: {reasons[0]}")
        for name, path in result.report.items():
            if name == "html":
                say(f"report: {path}")
    raise_failures(result)
    if result.rejected:
        lines = [f"  {name}: {reason}" for name, reasons in result.rejected.items() for reason in reasons]
        raise GateFailed(
            f"{len(result.rejected)} artifact(s) rejected, kept in {result.run_dir}\n" + "\n".join(lines),
            hint="the report shows where they differ; another precision of the same target may pass",
        )


def raise_failures(result: pipeline.RunResult) -> None:
    """Raises TargetError with every target's own words when a stage of this call failed."""
    if result.failures:
        lines = [f"  {name}: {words}" for name, words in result.failures.items()]
        lines += [f"  {name}: rejected: {reason}" for name, reasons in result.rejected.items() for reason in reasons]
        raise TargetError(
            f"{len(result.failures)} stage(s) failed; what the others built is kept in {result.run_dir}\n"
            + "\n".join(lines),
            hint="the same command tries the failed ones again; `datk targets doctor` tells what a target lacks",
        )


_SHOWN = ("r median", "r worst", "r teacher", "bench %", "drop pp", "size", "p50 ms", "x torch")
"""Columns of the report's table that fit a terminal; the report has them all, with intervals."""


def print_verdicts(table: VerdictTable) -> None:
    """The summary table, who judged, and what is absent with its reason."""
    if not table.rows:
        return
    shown = [i for i, heading in enumerate(table.headings) if heading in _SHOWN]
    columns = ["artifact", "verdict", *[table.headings[i] for i in shown]]
    rows = [[r.artifact, r.verdict, *[_cell(r.cells[i]) for i in shown]] for r in table.rows]
    print_table("verdicts", columns, rows, numeric=tuple(range(2, len(columns))))
    for label, meaning in table.labels:
        say(f"judged by {label} ({meaning}): {', '.join(r.artifact for r in table.rows if r.judged_by == label)}")
    used = {r.cells[i].note for r in table.rows for i in shown}
    for number, note in enumerate(table.notes, start=1):
        if number in used:
            say(f"[{number}] not measured: {note}")


def print_sentences(lines: Sequence[str]) -> None:
    """What to ship, one line a target; beside the table it sums up, on stdout."""
    for line in lines:
        print_line(line)


def _cell(cell: Cell) -> str:
    return f"[{cell.note}]" if cell.note else cell.text


def print_plan(planned: Sequence[Planned], run_dir: Path, *, json: bool) -> None:
    """The dry run."""
    if json:
        value: list[dict[str, Any]] = [
            {"stage": p.stage.name, "title": p.stage.title, "state": p.state, "why": p.why} for p in planned
        ]
        print_json({"run": str(run_dir), "stages": value})
        return
    words = {"built": "hit", "run": "miss", "taken": "taken", "beyond": "not now"}
    rows = [[p.stage.name, words[p.state], p.why, p.stage.title] for p in planned]
    print_table(f"plan for {run_dir}", ["stage", "cache", "why", "what"], rows)
