"""datk farm"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run artifacts on devices, score on this host, gate.", no_args_is_help=True)

Inventory = Annotated[Path | None, typer.Option("--inventory", help="devices.yaml. Default: ./devices.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout.")]


@app.command("devices", help="List the devices of devices.yaml; --probe asks each what it is.")
def devices(
    labels: Annotated[list[str] | None, typer.Argument(help="Names, labels or kinds. Default: all.")] = None,
    inventory: Inventory = None,
    probe: Annotated[bool, typer.Option("--probe", help="Connect, and say what is found there.")] = False,
    json: Json = False,
) -> None:
    """See help."""
    from datk.cli.console import print_json, print_table
    from datk.farm.inventory import load_inventory
    from datk.pipeline.farm.devices import listed

    rows = listed(load_inventory(inventory).select(labels or ["all"]), probe=probe)
    if json:
        print_json([row.as_json() for row in rows])
        return
    columns = ["device", "kind", "labels", "figures", "latency gates", "state"]
    print_table("devices", columns, [row.cells() for row in rows])
