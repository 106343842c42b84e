"""report.html, report.md and report.json of a run folder, and the table the terminal prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datk.artifact.files import write_json, write_text
from datk.report.pareto import draw_pareto, pareto_plot
from datk.report.pictures import Grid, picture_grid
from datk.report.plot import accuracy_plots
from datk.report.ship_table import COLUMNS as SHIP_COLUMNS
from datk.report.ship_table import RULE, ship_table
from datk.report.summary import RunSummary, json_safe, summarise
from datk.report.table import (
    COLUMNS,
    VerdictTable,
    format_bytes,
    format_duration,
    format_metric,
    headline,
    verdict_table,
)

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class ReportPaths:
    """The three files of a report, all in the run folder."""

    html: Path
    markdown: Path
    json: Path


def build_report(run_dir: Path) -> ReportPaths:
    """Write report.json, report.md and report.html into run_dir, each atomically, from its manifests.

    Stages that have not run are named as such; figures that were not measured keep their reason. The HTML is one
    file that opens offline: no script, no link to anywhere, pictures inside. Raises UsageError when run_dir is no
    run folder.
    """
    summary = summarise(run_dir)
    grid = picture_grid(run_dir, summary)
    paths = ReportPaths(run_dir / "report.html", run_dir / "report.md", run_dir / "report.json")
    write_json(paths.json, json_safe(summary.model_dump(mode="json")))
    write_text(paths.markdown, render("report.md.j2", summary))
    write_text(paths.html, render("report.html.j2", summary, grid=grid))
    return paths


def summary_table(run_dir: Path) -> VerdictTable:
    """The verdict table of a run, for the terminal. Raises UsageError when run_dir is no run folder."""
    return verdict_table(summarise(run_dir))


def write_pareto(run_dirs: Sequence[Path], path: Path) -> list[str]:
    """The Pareto picture of several runs, of several sizes for example. Returns what is not drawn."""
    return draw_pareto([summarise(run_dir) for run_dir in run_dirs], path)


def sentences(run_dir: Path) -> list[str]:
    """What to ship, one line a target. Raises UsageError when run_dir is no run folder."""
    summary = summarise(run_dir)
    return [target.headline for target in ship_table(summary.verdicts, summary.promoted, summary.seeds).targets]


def lint_lines(run_dir: Path) -> list[str]:
    """What the lint of operators found, one line an artifact. Raises UsageError when run_dir is no run folder."""
    lines = []
    for artifact in summarise(run_dir).artifacts:
        for check in artifact.checks:
            found = check.figures.get("findings") if check.name == "op-lint" else None
            if found:
                words = ", ".join(f"{f['count']}x {f['rule']}" + ("!" * (f["severity"] == "error")) for f in found)
                lines.append(f"{artifact.target} {artifact.precision}: op lint: {words}")
    return lines


def render(template: str, summary: RunSummary, *, grid: Grid | None = None) -> str:
    """Fill one of datk.report's templates; everything is escaped for the format the template writes."""
    return str(
        environment()
        .get_template(template)
        .render(
            s=summary,
            table=verdict_table(summary),
            columns=COLUMNS,
            headline=headline(summary),
            ship=ship_table(summary.verdicts, summary.promoted, summary.seeds),
            ship_columns=SHIP_COLUMNS,
            ship_rule=RULE,
            grid=grid,
            plots=[*accuracy_plots(summary), *pareto_plot(summary)] if grid is not None else [],
            written_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


def environment() -> Environment:
    """Templates of datk.report with its filters; what a template writes is escaped for its format."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("datk.report") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=lambda name: name is not None and name.endswith((".html.j2", ".css")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        bytes=format_bytes,
        duration=format_duration,
        metric=format_metric,
        words=_words,
        when=_when,
        cell=_markdown_cell,
    )
    return environment


def _when(timestamp: str) -> str:
    """2026-11-22 17:08 UTC from an ISO timestamp; what is none is shown as it stands."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return timestamp
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment.tzinfo else timestamp


def _words(value: Any) -> str:
    """A fact as a reader would write it: no braces for short lists, no quotes around words."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)


_MARKDOWN = str.maketrans({**{mark: "\\" + mark for mark in "\\`*_[]|#"}, "<": "&lt;", ">": "&gt;", "&": "&amp;"})


def _markdown_cell(value: Any) -> str:
    """Text that cannot break out of a Markdown table cell or become HTML, a link or emphasis."""
    return " ".join(str(value).split()).translate(_MARKDOWN)
