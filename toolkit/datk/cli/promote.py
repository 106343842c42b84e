"""datk promote"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Show what a run stands behind, or promote another precision than its verdict does, by name and with a reason.

Without TARGET: the promoted artifact of every target. What a verdict does not ship needs --force, --who and --why; they
are kept in the run's overrides.jsonl, to which lines are only added, and hold for that very artifact alone.

Example: datk promote runs/quickstart tflite fp16 --force --who "Ada" --why "the phone's NPU takes fp16 alone"
"""


def command(
    run: Annotated[Path | None, typer.Argument(help="Run folder. Default: the newest.")] = None,
    target: Annotated[str | None, typer.Argument(help="Target, as in `datk targets list`.")] = None,
    precision: Annotated[str | None, typer.Argument(help="Precision to promote.")] = None,
    input_size: Annotated[str | None, typer.Option(help="HxW, where the run has the target in several sizes.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote what the verdict does not ship.")] = False,
    who: Annotated[str | None, typer.Option(help="Who decides; kept with the run.")] = None,
    why: Annotated[str | None, typer.Option(help="The reason; kept with the run.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.cli.console import print_json, print_table, say
    from datk.depth.preprocess import parse_size
    from datk.errors import UsageError
    from datk.pipeline.promotion import promote, refresh
    from datk.pipeline.runs import newest_run

    run_dir = run or newest_run()
    if run is None:
        say(f"no run named: the newest, {run_dir}")
    if target is not None and precision is None:
        raise UsageError(f"{target} in which precision?", hint=f"datk promote {run_dir} {target} PRECISION")
    if target is not None and precision is not None:
        size = parse_size(input_size) if input_size else None
        shown = [promote(run_dir, target, precision, size=size, force=force, who=who, why=why)]
    else:
        shown = refresh(run_dir)
    if json:
        print_json([p.model_dump(mode="json") for p in shown])
        return
    if not shown:
        say(f"{run_dir} holds no verdict: `datk run RECIPE` or `datk export` writes them")
        return
    rows = [
        [f"{p.target} {p.input_size[0]}x{p.input_size[1]}", p.precision or "nothing", p.by or "the verdict", p.why]
        for p in shown
    ]
    print_table(f"promoted in {run_dir}", ["target", "precision", "by", "why"], rows)
