"""datk verify"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HELP = """Check export folders: every file's hash, the contract, the golden results, the signature if any.

Runs the artifact on the golden inputs. Needs no torch (Core ML off macOS excepted). A copy that needs datk neither:
verify.py in the folder. Exit code 3 names the file that is wrong; 4 when the runtime is missing here.
"""


def command(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[DIR]...", help="Export folders. Default: those of the newest run.")
    ] = None,
    files_only: Annotated[bool, typer.Option("--files-only", help="Do not run the artifact.")] = False,
    public_key: Annotated[
        Path | None, typer.Option(help="PEM file of the key that must have signed. Default: any signature must hold.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")] = False,
) -> None:
    """See HELP."""
    from datk.cli.console import print_json, say
    from datk.pipeline.runs import artifacts_of, newest_run, packs_of
    from datk.pipeline.verifying import verify_export

    chosen = folders
    if not chosen:
        run_dir = newest_run()
        say(f"no DIR: the exports of {run_dir}")
        chosen = [a.folder for a in (*artifacts_of(run_dir), *packs_of(run_dir))]
    results = {str(folder): verify_export(folder, run=not files_only, public_key=public_key) for folder in chosen}
    checks = [check for found in results.values() for check in found]
    if json:
        print_json({folder: [c._asdict() for c in found] for folder, found in results.items()})
    else:
        for folder, found in results.items():
            say(folder)
            for check in found:
                print(f"{check.status:>12}  {check.name}: {check.file}: {check.detail}")
    if any(c.status == "failed" for c in checks):
        raise typer.Exit(3)
    if not files_only and any(c.status == "not_measured" and c.name == "golden" for c in checks):
        raise typer.Exit(4)
