"""Write docs/cli.md from the commands themselves. `--check` fails when the page is stale."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "cli.md"
WIDTH = 100


def sections(command: Any, context: Any, name: str) -> list[str]:
    """Help of a command and of everything below it, depth first."""
    out = [f"## {name}\n\n```\n{command.get_help(context).strip()}\n```\n"]
    for child in getattr(command, "commands", {}):
        inner = command.commands[child]
        out += sections(inner, inner.make_context(child, [], parent=context, resilient_parsing=True), f"{name} {child}")
    return out


def page() -> str:
    """The whole page."""
    import typer

    from datk.cli.main import app

    command = typer.main.get_command(app)
    context = command.make_context("datk", [], resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH)
    head = "# Commands\n\nMade by `make docs` from the commands' own help; a test holds it current.\n"
    lines = "\n".join([head, *sections(command, context, "datk")]).splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def main() -> int:
    """Exit code 1 when --check finds the page stale."""
    text = page()
    if "--check" in sys.argv:
        stale = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text
        if stale:
            print(f"{PAGE} is stale: run `make docs`", file=sys.stderr)
        return int(stale)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
