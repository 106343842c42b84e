"""datk targets"""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Targets: list them, ask what each needs here.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


@app.command("list", help="Every target, its precisions, whether it builds and runs here.")
def list_(json: Json = False) -> None:
    """See help."""
    from datk import targets
    from datk.cli.console import print_json, print_table, say

    found = list(targets.available().values())
    if json:
        print_json(
            [
                {"name": t.name, "precisions": t.precisions, "missing": t.missing(), "cannot_run": t.cannot_run()}
                for t in found
            ]
        )
        return
    rows = [
        [
            t.name,
            t.title,
            " ".join(t.precisions),
            "no: datk targets doctor" if t.missing() else "yes",
            "no" if t.cannot_run() else "yes",
        ]
        for t in found
    ]
    print_table("targets", ["name", "what", "precisions", "builds here", "runs here"], rows)
    for t in found:
        if reason := t.cannot_run():
            say(f"{t.name} is built and checked here, and left unverified: {reason}")


@app.command("doctor", help="What is found, what is missing, and the line that installs it. Exit 4 when something is.")
def doctor(
    name: Annotated[str | None, typer.Argument(help="One target; default: all.")] = None, json: Json = False
) -> None:
    """See help."""
    from datk import targets
    from datk.cli.console import print_json, print_table
    from datk.errors import EnvironmentLacks
    from datk.pipeline.doctor import examine

    chosen = [targets.get(name)] if name else list(targets.available().values())
    found = [item for target in chosen for item in examine(target)]
    if json:
        print_json([item.model_dump() for item in found])
    else:
        rows = [[i.target, i.need, i.version or "missing", i.remedy if i.version is None else ""] for i in found]
        print_table("what targets need", ["target", "needs", "found", "install with"], rows)
    missing = [i for i in found if i.version is None and i.required]
    if missing:
        raise EnvironmentLacks(
            "; ".join(f"{i.target} lacks {i.need}" for i in missing),
            hint=" && ".join(dict.fromkeys(i.remedy for i in missing)),
        )
