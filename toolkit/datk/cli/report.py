"""datk report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Write the report of a run, or of a record that `datk validate --keep FILE.json` left.

A run gets report.html, report.md and report.json; without a name the newest. A record gets FILE.html: figures beside
the paper's, scene by scene, the worst pairs drawn. A second record is the earlier one it is compared with.
"""


def command(
    run: Annotated[Path | None, typer.Argument(help="Run folder, or a record FILE.json.")] = None,
    before: Annotated[Path | None, typer.Argument(help="With a record: the earlier one to compare with.")] = None,
    pareto: Annotated[
        Path | None, typer.Option(help="Also draw accuracy against size and latency to this .svg, .png or .pdf.")
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="With --pareto: another run in the same picture; repeat.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.cli.console import print_json, print_table, say
    from datk.cli.running import print_sentences, print_verdicts
    from datk.errors import UsageError
    from datk.pipeline.runs import newest_run
    from datk.report.build import build_report, sentences, summary_table, write_pareto
    from datk.report.judged_page import write_judged_page

    if run is not None and run.suffix == ".json":
        out = run.with_suffix(".html")
        page = write_judged_page(run, out, before=before)
        if json:
            print_json({"html": str(out), "changes": [list(c) for c in page.changes]})
            return
        if page.changes:
            print_table("against the earlier record", ["model", "change", "in words"], [list(c) for c in page.changes])
        say(f"report: {out}")
        return
    if before is not None:
        raise UsageError(
            f"{before}: two runs are compared by their records", hint="`datk validate ... --keep FILE.json` for each"
        )
    if beside and pareto is None:
        raise UsageError("--beside goes with --pareto FILE")
    run_dir = run or newest_run()
    if run is None:
        say(f"no run named: the newest, {run_dir}")
    paths = build_report(run_dir)
    table = summary_table(run_dir)
    if pareto is not None:
        for name in write_pareto([run_dir, *(beside or [])], pareto):
            say(f"not drawn, for want of a figure: {name}")
        say(f"picture: {pareto}")
    if json:
        print_json({"html": str(paths.html), "markdown": str(paths.markdown), "json": str(paths.json)})
        return
    print_verdicts(table)
    print_sentences(sentences(run_dir))
    say(f"report: {paths.html}")
