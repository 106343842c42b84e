"""`make bench`: every bench_*.py here, as one table of ratios measured in one run."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def main() -> int:
    """Run all, or those named; print a table, or JSON."""
    names = [m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name.startswith("bench_")]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("only", nargs="*", help=f"of {', '.join(n.removeprefix('bench_') for n in names)}")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    chosen = [n for n in names if not wanted.only or n.removeprefix("bench_") in wanted.only]
    if not chosen:
        parser.error(f"nothing to run: {' '.join(wanted.only)}")
    rows: list[dict[str, Any]] = []
    for name in chosen:
        print(f"running {name} ...", file=sys.stderr)
        rows += importlib.import_module(f"tests.bench.{name}").run()
    if wanted.json:
        json.dump(rows, sys.stdout, indent=2)
        return 0
    table = Table(
        title="ratio: ours / reference, same run, same machine; below 1 is better for times", title_justify="left"
    )
    for heading in ("what", "value", "unit", "n", "reference", "ratio"):
        table.add_column(heading, justify="right" if heading in ("value", "n", "ratio") else "left")
    for row in rows:
        table.add_row(
            str(row["name"]),
            number(row["value"]),
            str(row["unit"]),
            str(row["n"]),
            str(row["reference"]),
            number(row["ratio"]),
        )
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    return 0


def number(value: float | None) -> str:
    """Four digits, or a dash for what was not measured."""
    return "–" if value is None else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
