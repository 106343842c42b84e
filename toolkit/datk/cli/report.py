"""datk report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = "Write report.html, report.md and report.json of a run. Default: the newest run."


def command(
    run: Annotated[Path | None, typer.Argument(help="Run folder.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.cli.console import print_json, say
    from datk.cli.running import print_verdicts
    from datk.pipeline.runs import newest_run
    from datk.report.build import build_report, summary_table

    run_dir = run or newest_run()
    if run is None:
        say(f"no run named: the newest, {run_dir}")
    paths = build_report(run_dir)
    table = summary_table(run_dir)
    if json:
        print_json({"html": str(paths.html), "markdown": str(paths.markdown), "json": str(paths.json)})
        return
    print_verdicts(table)
    say(f"report: {paths.html}")
